//! What KVM counts of one processor: exits, interrupts, and on software KVM the guest instructions it interpreted.
//!
//! KVM describes its statistics itself (Documentation/virt/kvm/api.rst, `KVM_GET_STATS_FD`): a header, a block of
//! descriptors with names, a block of numbers. Which there are differs between hosts, so they are found by name; one
//! that this host does not have is absent. Nothing here is an ioctl: see [`crate::kvm::Vcpu::statistics`].

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use crate::control::VcpuCounters;

/// `struct kvm_stats_header`: flags, size of a name, number of descriptors, and where three blocks begin.
const HEADER_BYTES: usize = 24;
/// `struct kvm_stats_desc` before its name: flags, exponent, number of values, their offset, bucket size.
const DESCRIPTOR_BYTES: usize = 16;
/// Far above what any kernel has; only so that an odd answer cannot make us allocate without bound.
const MAX_NAME_BYTES: usize = 256;
const MAX_DESCRIPTORS: usize = 1024;

/// One processor's statistics. Readable while the processor runs, and from any thread.
#[derive(Debug)]
pub(crate) struct VcpuStatistics(File);

impl VcpuStatistics {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self(File::from(descriptor))
    }

    /// # Errors
    /// The host's answer cannot be read or makes no sense.
    pub(crate) fn read(&self) -> io::Result<VcpuCounters> {
        let header = Header::parse(read_exactly::<HEADER_BYTES>(&self.0, 0)?)?;
        let mut descriptors = vec![0; header.descriptors * header.descriptor_bytes()];
        self.0.read_exact_at(&mut descriptors, header.descriptors_offset)?;
        let value = |name: &str| {
            let found = descriptors
                .chunks_exact(header.descriptor_bytes())
                .find(|one| name_of(one) == name.as_bytes());
            let offset = header.data_offset + u64::from(u32_at(found?, 8)?);
            Some(read_exactly::<8>(&self.0, offset).map(u64::from_ne_bytes))
        };
        Ok(VcpuCounters {
            exits: value("exits").transpose()?,
            port_exits: value("io_exits").transpose()?,
            mmio_exits: value("mmio_exits").transpose()?,
            halts: value("halt_exits").transpose()?,
            injected_interrupts: value("irq_injections").transpose()?,
            emulated_instructions: value("insn_emulation").transpose()?,
        })
    }
}

struct Header {
    name_bytes: usize,
    descriptors: usize,
    descriptors_offset: u64,
    data_offset: u64,
}

impl Header {
    fn parse(bytes: [u8; HEADER_BYTES]) -> io::Result<Self> {
        let field = |index: usize| u32_at(&bytes, index * 4).map(|value| value as usize);
        let [name_bytes, descriptors, descriptors_offset, data_offset] = [1, 2, 4, 5].map(field);
        let bounded = |value: Option<usize>, max| value.filter(|value| (1..=max).contains(value));
        let (name_bytes, descriptors) =
            bounded(name_bytes, MAX_NAME_BYTES).zip(bounded(descriptors, MAX_DESCRIPTORS)).ok_or_else(odd)?;
        let (descriptors_offset, data_offset) = descriptors_offset.zip(data_offset).ok_or_else(odd)?;
        let (descriptors_offset, data_offset) = (descriptors_offset as u64, data_offset as u64);
        Ok(Self { name_bytes, descriptors, descriptors_offset, data_offset })
    }

    fn descriptor_bytes(&self) -> usize {
        DESCRIPTOR_BYTES + self.name_bytes
    }
}

fn odd() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "KVM describes its statistics in a way that is not known here")
}

fn read_exactly<const LENGTH: usize>(file: &File, offset: u64) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

/// A descriptor's name, which ends with the first zero.
fn name_of(descriptor: &[u8]) -> &[u8] {
    let name = descriptor.get(DESCRIPTOR_BYTES..).unwrap_or_default();
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const NAME_BYTES: u32 = 48;

    /// A file as KVM would show it, with these statistics.
    fn statistics(values: &[(&str, u64)]) -> VcpuStatistics {
        let count = u32::try_from(values.len()).unwrap();
        let data_offset = 24 + count * (16 + NAME_BYTES);
        let mut bytes = Vec::new();
        for field in [0, NAME_BYTES, count, 0, 24, data_offset] {
            bytes.extend(field.to_ne_bytes());
        }
        for (index, (name, _)) in (0..).zip(values) {
            for field in [0_u32, 1 << 16, index * 8, 0] {
                bytes.extend(field.to_ne_bytes());
            }
            let mut padded = name.as_bytes().to_vec();
            padded.resize(NAME_BYTES as usize, 0);
            bytes.extend(padded);
        }
        bytes.extend(values.iter().flat_map(|(_, value)| value.to_ne_bytes()));
        from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> VcpuStatistics {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        VcpuStatistics::new(file.into())
    }

    #[test]
    fn what_the_host_counts_is_found_by_name_and_the_rest_is_absent() {
        let counters =
            statistics(&[("pf_taken", 1), ("exits", 7), ("insn_emulation_fail", 2)]).read().unwrap();
        assert_eq!(counters, VcpuCounters { exits: Some(7), ..VcpuCounters::default() });
    }

    #[test]
    fn nonsense_is_an_error() {
        for header in
            [[0; 6], [0, u32::MAX, 1, 0, 24, 24], [0, 48, u32::MAX, 0, 24, 24], [0, 48, 1, 0, 24, 24]]
        {
            let bytes: Vec<u8> = header.iter().flat_map(|field| field.to_ne_bytes()).collect();
            assert!(from_bytes(&bytes).read().is_err(), "{header:?}");
        }
        assert!(from_bytes(&[]).read().is_err());
    }
}
