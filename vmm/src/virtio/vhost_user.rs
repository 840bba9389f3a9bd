//! The vhost-user transport: a device served to another process that shares its guest's memory with us.
//!
//! The other process is trusted to run the guest, not to be bug-free: when it goes away or says nonsense, the
//! connection ends and nothing else. A device that breaks is left alone until its driver resets it.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringMutex, VringT};
use virtio_bindings::{virtio_config, virtio_ring};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use super::{Broken, DeviceKind, UsedQueues, VirtioDevice};
use crate::dirty_pages::DirtyPages;
use crate::memory::GuestMemoryMmap;

/// QEMU's virtio-mmio offers every driver queues of this size, whatever the device would like.
const MAX_QUEUE_SIZE: usize = 1024;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Vring = VringMutex<Memory>;

/// Tells whoever cares that a device broke, and how.
pub(crate) type BrokenReport = Box<dyn Fn(&Broken) + Send + Sync>;

/// The transport's side of one device; the device is served until this is dropped or the other end closes.
pub(crate) struct Server {
    _daemon: VhostUserDaemon<Arc<Adapter>>,
}

/// Serves `device` and gives the end of the connection that the other process is to have. `directory` is where a
/// socket may exist for a moment.
///
/// # Errors
/// The host has no more descriptors or threads, or the directory cannot hold a socket.
pub(crate) fn serve(
    device: Box<dyn VirtioDevice>,
    directory: &Path,
    broken: BrokenReport,
) -> io::Result<(Server, UnixStream)> {
    let host_fd = device.host_fd().map(|fd| fd.as_raw_fd());
    let name = format!("{:?}", device.kind()).to_lowercase();
    let adapter = Arc::new(Adapter::new(device, broken));
    let host_event = u64::from(adapter.host_event());
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new(name, adapter, memory).map_err(host_failure)?;
    if let Some(fd) = host_fd {
        for handler in daemon.get_epoll_handlers() {
            // By edges: a device that broke leaves its events where they are, and must not be called for them again.
            handler.register_listener(fd, EventSet::IN | EventSet::EDGE_TRIGGERED, host_event)?;
        }
    }
    // The daemon only takes connections from a listener; being our own client, we hold both ends at once, and no
    // name stays behind that somebody else could connect to.
    let path = directory.join("vhost-user.sock");
    let listener = UnixListener::bind(&path)?;
    let theirs = UnixStream::connect(&path);
    std::fs::remove_file(&path)?;
    let theirs = theirs?;
    daemon.start(&mut Listener::from(listener)).map_err(host_failure)?;
    Ok((Server { _daemon: daemon }, theirs))
}

/// The daemon's errors are not `Error`s themselves; all that can happen this early is a lack of host resources.
#[expect(clippy::needless_pass_by_value, reason = "used as a function of map_err")]
fn host_failure(error: vhost_user_backend::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// How far a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Inactive,
    Active,
    /// Its queues were stopped: by its driver, or because the whole machine stands still. Which, the next start tells.
    Stopped,
    /// Nothing is done for it until its queues are stopped.
    Broken,
}

struct Served {
    device: Box<dyn VirtioDevice>,
    state: State,
    features: u64,
}

/// Makes a [`VirtioDevice`] what the vhost-user crate serves.
struct Adapter {
    served: Mutex<Served>,
    memory: Mutex<Memory>,
    queue_sizes: &'static [u16],
    broken: BrokenReport,
}

impl Adapter {
    fn new(device: Box<dyn VirtioDevice>, broken: BrokenReport) -> Self {
        let queue_sizes = device.queue_sizes();
        let served = Served { device, state: State::Inactive, features: 0 };
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        Self { served: Mutex::new(served), memory: Mutex::new(memory), queue_sizes, broken }
    }

    /// The event number of the device's host descriptor: behind the queues and the crate's own.
    fn host_event(&self) -> u16 {
        u16::try_from(self.queue_sizes.len() + 1).expect("devices have few queues")
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Served {
    fn event(
        &mut self,
        queue: Option<usize>,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let Some(index) = queue else { return self.device.host_event(memory, queues) };
        self.go_on(queues);
        self.device.queue_event(index, memory, queues)
    }

    /// Queues are in use (again). A driver that begins anew begins its rings at zero, a machine that goes on does not.
    fn go_on(&mut self, queues: &[&mut Queue]) {
        let anew = queues.iter().all(|queue| queue.next_avail() == 0 && queue.next_used() == 0);
        match self.state {
            State::Stopped if anew => {
                self.device.reset();
                self.device.activate(self.features);
            }
            State::Inactive => self.device.activate(self.features),
            State::Stopped | State::Active | State::Broken => {}
        }
        self.state = State::Active;
    }
}

impl VhostUserBackend for Adapter {
    type Bitmap = DirtyPages;
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        self.queue_sizes.len()
    }

    fn max_queue_size(&self) -> usize {
        MAX_QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        self.served().device.features()
            | 1 << virtio_config::VIRTIO_F_VERSION_1
            | 1 << virtio_ring::VIRTIO_RING_F_INDIRECT_DESC
            | 1 << virtio_ring::VIRTIO_RING_F_EVENT_IDX
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn acked_features(&self, features: u64) {
        self.served().features = features;
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        // QEMU has no use for the configuration of a device that has none, or whose configuration is its own business,
        // and says so on its standard error.
        let config = match self.served().device.kind() {
            DeviceKind::Rng | DeviceKind::Network => VhostUserProtocolFeatures::empty(),
            DeviceKind::Block
            | DeviceKind::Console
            | DeviceKind::Vsock
            | DeviceKind::Balloon
            | DeviceKind::FileSystem => VhostUserProtocolFeatures::CONFIG,
        };
        config | VhostUserProtocolFeatures::MQ
    }

    /// The rings know by themselves.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        /// `VHOST_USER_MAX_CONFIG_SIZE`.
        const MAX_CONFIG_BYTES: u32 = 256;
        let mut bytes = vec![0; size.min(MAX_CONFIG_BYTES) as usize];
        self.served().device.read_config(offset.into(), &mut bytes);
        bytes
    }

    fn update_memory(&self, memory: Memory) -> io::Result<()> {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        Ok(())
    }

    /// The driver resets the device, or the machine is paused, or it is going down.
    fn stop_vring(&self, _queue: u32) -> io::Result<()> {
        let mut served = self.served();
        if served.state == State::Broken {
            served.device.reset();
        }
        if served.state != State::Inactive {
            served.state = State::Stopped;
        }
        Ok(())
    }

    /// How the device's thread is told to end.
    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        // Without one the thread would be waited for in vain; there is none only when there are no more descriptors,
        // and then the thread could not be started either.
        new_event_consumer_and_notifier(EventFlag::CLOEXEC).ok()
    }

    /// An error from here would end the device's thread for good: breakage stays in the device's state instead.
    fn handle_event(&self, event: u16, _set: EventSet, vrings: &[Vring], _thread: usize) -> io::Result<()> {
        let mut served = self.served();
        if served.state == State::Broken {
            return Ok(());
        }
        let queue = (event != self.host_event()).then_some(usize::from(event));
        let atomic = self.memory();
        let memory = atomic.memory();
        let mut guards: Vec<_> = vrings.iter().map(VringT::get_mut).collect();
        let mut queues: Vec<&mut Queue> = guards.iter_mut().map(|guard| guard.get_queue_mut()).collect();
        let used = served.event(queue, &memory, &mut queues).unwrap_or_else(|broken| {
            (self.broken)(&broken);
            served.state = State::Broken;
            UsedQueues::NONE
        });
        for (index, vring) in guards.iter_mut().enumerate() {
            // Asked in any case: it keeps count of what the driver was told.
            if used.contains(index) && (vring.needs_notification().unwrap_or(true) || used.has_interrupt()) {
                // It fails only when the other process is gone.
                vring.signal_used_queue().ok();
            }
        }
        Ok(())
    }
}
