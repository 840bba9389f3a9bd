//! The daemon is killed at any moment of a pull, push, load or prune, a hundred times: the store is sound each time, and
//! what was interrupted can be repeated.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use berth_tests::made_image::{MadeImage, noise_layer};
use berth_tests::registry::{Registry, Relay};
use berth_tests::{Client, Host, Skopeo, eventually};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 100;
/// Set it to what an earlier run printed to have the same moments again, as far as a clock can.
const SEED_VARIABLE: &str = "BERTH_TEST_SEED";
/// So slow is the line that a pull has as many moments as its disk.
const LINE_BYTES_PER_SECOND: u64 = 8_000_000;
const NAME: &str = "victim:latest";

/// What is interrupted.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Pull,
    Push,
    Load,
    Prune,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Pull, Self::Push, Self::Load, Self::Prune];
}

/// One daemon's world.
struct Scene {
    host: Host,
    client: Client,
    archive: String,
    relay: Relay,
    /// Counts the repositories that were pushed to: each is new, so that there is something to do.
    pushes: usize,
}

impl Scene {
    /// The image is here, or not: whatever the operation needs.
    fn prepare(&mut self, operation: Operation) {
        let is_here = self.client.run(["images", "--quiet"]).exits_with(0).text() != "";
        match operation {
            Operation::Pull | Operation::Load if is_here => {
                self.client.run(["image", "prune", "--all", "--force"]).exits_with(0);
            }
            Operation::Push | Operation::Prune if !is_here => {
                self.client.run(["load", "--quiet", "--input", &self.archive]).exits_with(0);
            }
            _ready => {}
        }
        if matches!(operation, Operation::Push) {
            self.pushes += 1;
            self.client.run(["tag", &self.local(), &self.target()]).exits_with(0);
        }
    }

    fn words(&self, operation: Operation) -> Vec<String> {
        match operation {
            Operation::Pull => vec!["pull".to_owned(), self.relay.image(NAME)],
            Operation::Push => vec!["push".to_owned(), self.target()],
            Operation::Load => ["load", "--quiet", "--input", &self.archive].map(str::to_owned).to_vec(),
            Operation::Prune => ["image", "prune", "--all", "--force"].map(str::to_owned).to_vec(),
        }
    }

    /// Any id will do as a name: there is only one image.
    fn local(&self) -> String {
        let ids = self.client.run(["images", "--quiet"]).text();
        ids.lines().next().expect("the image is here").to_owned()
    }

    fn target(&self) -> String {
        self.relay.image(&format!("target/{}:latest", self.pushes))
    }

    /// How long the operation takes when nothing comes between.
    fn duration(&mut self, operation: Operation) -> Duration {
        self.prepare(operation);
        let started = Instant::now();
        self.client.run(self.words(operation)).exits_with(0);
        started.elapsed()
    }

    fn kill_during(&mut self, operation: Operation, moment: Duration) {
        self.prepare(operation);
        let running = self.client.spawn(self.words(operation));
        std::thread::sleep(moment);
        self.host.kill_daemon();
        drop(running);
        self.host.start_daemon();
        let staging = self.host.path("data/image/tmp");
        eventually("nothing unfinished is left", || {
            std::fs::read_dir(&staging).is_ok_and(|mut entries| entries.next().is_none())
        });
        self.host.has_a_sound_store();
        self.client.run(self.words(operation)).exits_with(0);
    }
}

#[test]
fn a_hundred_kills_leave_a_sound_store() {
    let (Some(host), Some(registry), Some(skopeo)) = (Host::empty(), Registry::plain(), Skopeo::find())
    else {
        return;
    };
    let seed = seed();
    eprintln!("seed: {seed} ({SEED_VARIABLE} takes it)");
    let mut scene = scene(host, &registry, &skopeo);
    let usual = Operation::ALL.map(|operation| scene.duration(operation));
    let mut random = SmallRng::seed_from_u64(seed);
    for kill in 0..KILLS {
        let which = random.random_range(0..Operation::ALL.len());
        let operation = Operation::ALL[which];
        let moment = usual[which].mul_f64(random.random_range(0.0..1.1));
        eprintln!("{kill}: {operation:?} killed after {moment:?}");
        scene.kill_during(operation, moment);
    }
    // After all that the image is what it was.
    scene.prepare(Operation::Pull);
    let name = scene.relay.image(NAME);
    scene.client.run(["pull", &name]).exits_with(0);
    let script = "cat /noise/*/* | wc -c";
    scene.client.run(["run", "--rm", &name, "sh", "-c", script]).exits_with(0).prints_exactly("1200000");
    scene.client.run(["image", "prune", "--all", "--force"]).exits_with(0);
    for directory in ["blobs/sha256", "layers", "disks"] {
        let left = std::fs::read_dir(scene.host.path("data/image").join(directory)).unwrap().count();
        assert_eq!(left, 0, "{directory} is not empty without images");
    }
}

fn scene(host: Host, registry: &Registry, skopeo: &Skopeo) -> Scene {
    let mut layers = MadeImage::layers_of_archive(host.image_archive("busybox").as_ref());
    layers.extend((1..=3).map(|layer| noise_layer(layer, 4, 100_000)));
    let archive = host.path("victim.tar");
    MadeImage::of_layers(&layers).write_archive(&archive, NAME);
    let archive = archive.to_string_lossy().into_owned();
    skopeo.copy(&format!("oci-archive:{archive}"), &format!("docker://{}", registry.image(NAME)));
    let relay = Relay::to(&registry.address());
    relay.limit(LINE_BYTES_PER_SECOND);
    Scene { client: host.berth(), host, archive, relay, pushes: 0 }
}

fn seed() -> u64 {
    let given = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok());
    let now =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    given.unwrap_or_else(now)
}
