//! What a container may do with devices, as a program that the kernel asks at every use (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! Rules only permit; what none of them permits is refused. The program is made here, from the numbers of devices that
//! only this kernel knows, and is pure; attaching it is a pair of system calls.

use std::os::fd::AsFd;

use berth_protocol::agent::{DeviceKind, DeviceRule};

use crate::bpf::{self, EXIT};
use crate::failure::Failure;

/// `linux/bpf.h`: the kinds of devices and accesses as the program sees them.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE_NODE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const EVERYTHING: i32 = MAKE_NODE | READ | WRITE;

/// More rules than anybody writes by hand; the kernel bounds programs by itself.
const MAX_RULES: usize = 4096;

/// Docker's: any node may be made, and these character devices used. Major and minor by `admin-guide/devices.txt`.
const STANDARD_CHARACTER_DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // terminals
];

/// The rules of every container.
pub(super) fn standard() -> Vec<DeviceRule> {
    let make =
        |kind: DeviceKind| DeviceRule { kind: kind.into(), access: "m".into(), ..DeviceRule::default() };
    let mut rules = vec![make(DeviceKind::CharacterDevice), make(DeviceKind::BlockDevice)];
    rules.extend(STANDARD_CHARACTER_DEVICES.map(|(major, minor)| DeviceRule {
        kind: DeviceKind::CharacterDevice.into(),
        major: Some(major),
        minor,
        access: "rwm".into(),
    }));
    rules
}

/// Lets the processes of a cgroup use what the rules permit, and nothing else.
///
/// # Errors
/// INVALID_REQUEST for a rule that is none, INTERNAL if the kernel refuses the program.
pub(super) fn enforce(cgroup: impl AsFd, rules: &[DeviceRule]) -> Result<(), Failure> {
    use crate::failure::During;
    use berth_protocol::agent::ErrorCode;
    let program = program(rules)?;
    let attached =
        bpf::load_device_program(&program).and_then(|loaded| bpf::attach_device_program(cgroup, loaded));
    attached.during(ErrorCode::Internal, || "enforce the rules for devices")
}

fn program(rules: &[DeviceRule]) -> Result<Vec<u64>, Failure> {
    if rules.len() > MAX_RULES {
        return Err(Failure::invalid(format!("more than {MAX_RULES} rules for devices")));
    }
    let mut program = prologue().to_vec();
    for rule in rules {
        program.extend(permission(rule)?);
    }
    program.extend([set(Register::Result, 0), EXIT]);
    Ok(program)
}

/// The registers of BPF that the program uses.
#[derive(Clone, Copy)]
enum Register {
    Result = 0,
    /// The argument: `struct bpf_cgroup_dev_ctx`.
    Context = 1,
    Kind = 2,
    Access = 3,
    Major = 4,
    Minor = 5,
    Scratch = 6,
}

const fn instruction(opcode: u8, target: Register, source: Register, offset: i16, constant: i32) -> u64 {
    bpf::instruction(opcode, target as u8, source as u8, offset, constant)
}

/// 32-bit load from the context (`BPF_LDX | BPF_MEM | BPF_W`).
const fn load(target: Register, offset: i16) -> u64 {
    instruction(0x61, target, Register::Context, offset, 0)
}

/// `BPF_ALU | BPF_MOV | BPF_K`.
const fn set(target: Register, constant: i32) -> u64 {
    instruction(0xb4, target, Register::Result, 0, constant)
}

/// `BPF_ALU | BPF_AND | BPF_K`.
const fn keep_bits(target: Register, bits: i32) -> u64 {
    instruction(0x54, target, Register::Result, 0, bits)
}

/// Skips as many instructions if the register holds another value (`BPF_JMP32 | BPF_JNE | BPF_K`).
const fn unless(register: Register, value: i32, skip: i16) -> u64 {
    instruction(0x56, register, Register::Result, skip, value)
}

/// The context's three words, the first of which is kind and access in 16 bits each.
const fn prologue() -> [u64; 6] {
    [
        load(Register::Kind, 0),
        keep_bits(Register::Kind, 0xffff),
        load(Register::Access, 0),
        // BPF_ALU | BPF_RSH | BPF_K
        instruction(0x74, Register::Access, Register::Result, 0, 16),
        load(Register::Major, 4),
        load(Register::Minor, 8),
    ]
}

/// Compares what a rule names, and permits where all of it fits.
fn permission(rule: &DeviceRule) -> Result<Vec<u64>, Failure> {
    let access = access_bits(&rule.access)?;
    let kind = match rule.kind() {
        DeviceKind::AnyDevice => None,
        DeviceKind::BlockDevice => Some(BLOCK),
        DeviceKind::CharacterDevice => Some(CHARACTER),
    };
    let number = |number: Option<u32>| number.map(u32::cast_signed);
    let comparisons = [
        (Register::Kind, kind),
        (Register::Major, number(rule.major)),
        (Register::Minor, number(rule.minor)),
    ];
    let mut parts: Vec<u64> = Vec::new();
    // From the end, where the number of instructions still to skip is known.
    let mut rest = vec![set(Register::Result, 1), EXIT];
    for (register, value) in comparisons.into_iter().rev() {
        if let Some(value) = value {
            let skip = i16::try_from(rest.len()).expect("a rule is a dozen instructions");
            rest.insert(0, unless(register, value, skip));
        }
    }
    if access != EVERYTHING {
        let skip = i16::try_from(rest.len()).expect("a rule is a dozen instructions");
        // What is asked for beyond the rule's accesses is nothing.
        parts.push(instruction(0xbc, Register::Scratch, Register::Access, 0, 0));
        parts.push(keep_bits(Register::Scratch, EVERYTHING & !access));
        parts.push(unless(Register::Scratch, 0, skip));
    }
    parts.extend(rest);
    Ok(parts)
}

fn access_bits(letters: &str) -> Result<i32, Failure> {
    let bit = |letter| match letter {
        'r' => Some(READ),
        'w' => Some(WRITE),
        'm' => Some(MAKE_NODE),
        _ => None,
    };
    let bits = letters.chars().try_fold(0, |bits, letter| Some(bits | bit(letter)?));
    bits.filter(|bits| *bits != 0)
        .ok_or_else(|| Failure::invalid(format!("{letters:?} is no access to a device")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn permits(rules: &[DeviceRule], kind: i32, access: i32, major: u32, minor: u32) -> bool {
        let program = program(rules).unwrap();
        let context = [access << 16 | kind, major.cast_signed(), minor.cast_signed()];
        let mut registers = [0_i32; 7];
        let mut at = 0;
        for _ in 0..100_000 {
            let word = program[at];
            let [opcode, pair, ..] = word.to_le_bytes();
            let (target, source) = (usize::from(pair & 0xf), usize::from(pair >> 4));
            let offset = usize::try_from(word >> 16 & 0xffff).unwrap();
            let constant = i32::from_le_bytes(word.to_le_bytes()[4..].try_into().unwrap());
            at += 1;
            match opcode {
                0x61 => registers[target] = context[offset / 4],
                0x54 => registers[target] &= constant,
                0x74 => registers[target] = registers[target] >> constant & 0xffff,
                0xb4 => registers[target] = constant,
                0xbc => registers[target] = registers[source],
                0x56 if registers[target] != constant => at += offset,
                0x56 => {}
                0x95 => return registers[0] == 1,
                other => panic!("opcode {other:#x}"),
            }
        }
        panic!("the program does not end")
    }

    fn rule(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
        DeviceRule { kind: kind.into(), major, minor, access: access.into() }
    }

    #[test]
    fn the_standard_devices_can_be_used_and_others_only_made() {
        let rules = standard();
        for (major, minor) in [(1, 3), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77)] {
            assert!(permits(&rules, CHARACTER, READ | WRITE, major, minor), "{major}:{minor}");
        }
        assert!(!permits(&rules, CHARACTER, READ, 1, 1), "/dev/mem");
        assert!(!permits(&rules, BLOCK, READ, 254, 0), "a disk");
        assert!(permits(&rules, BLOCK, MAKE_NODE, 254, 0));
        assert!(!permits(&rules, BLOCK, MAKE_NODE | READ, 254, 0), "each access that is asked for counts");
    }

    #[test]
    fn a_rule_permits_what_it_names() {
        let rules = [rule(DeviceKind::CharacterDevice, Some(10), Some(229), "rw")];
        assert!(permits(&rules, CHARACTER, READ | WRITE, 10, 229));
        assert!(permits(&rules, CHARACTER, WRITE, 10, 229));
        for (kind, access, major, minor) in [
            (CHARACTER, MAKE_NODE, 10, 229),
            (BLOCK, READ, 10, 229),
            (CHARACTER, READ, 10, 228),
            (CHARACTER, READ, 11, 229),
        ] {
            assert!(!permits(&rules, kind, access, major, minor), "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn what_is_not_named_is_any() {
        let rules = [
            rule(DeviceKind::AnyDevice, None, Some(4), "r"),
            rule(DeviceKind::BlockDevice, Some(7), None, "rwm"),
        ];
        assert!(permits(&rules, CHARACTER, READ, 1234, 4));
        assert!(permits(&rules, BLOCK, EVERYTHING, 7, 99));
        assert!(!permits(&rules, CHARACTER, WRITE, 7, 4));
        let all = [rule(DeviceKind::AnyDevice, None, None, "rwm")];
        assert!(permits(&all, BLOCK, EVERYTHING, 1, 2));
    }

    #[test]
    fn an_access_that_is_none_is_refused() {
        for wrong in ["", "x", "rwx"] {
            assert!(program(&[rule(DeviceKind::AnyDevice, None, None, wrong)]).is_err(), "{wrong:?}");
        }
        assert!(program(&vec![rule(DeviceKind::AnyDevice, None, None, "r"); MAX_RULES + 1]).is_err());
    }
}
