//! Devices that go on from a saved state, and states that are anybody's: a driver's register writes lead to none of them.

use serde_json::{Value, json};

use super::{AVAILABLE, Bench, MEMORY_BYTES, Mirror};
use crate::virtio::mmio::SavedDevice;

/// What an active device with two queues is saved as.
fn saved() -> Value {
    let bench = Bench::active(Mirror::new());
    serde_json::to_value(bench.device.hold().save().unwrap()).unwrap()
}

/// The same with another value somewhere.
fn with(pointer: &str, value: Value) -> Value {
    let mut saved = saved();
    *saved.pointer_mut(pointer).unwrap() = value;
    saved
}

/// Restores a new device.
fn restore(saved: Value) -> Result<Bench, String> {
    let saved: SavedDevice = serde_json::from_value(saved).unwrap();
    let bench = Bench::new(Mirror::new());
    bench.device.restore(&saved).map_err(|error| error.to_string())?;
    assert_eq!(bench.device.hold().save().unwrap(), saved, "it is saved as what it was restored from");
    Ok(bench)
}

#[track_caller]
fn refuses(pointer: &str, value: Value, why: &str) {
    let refusal = restore(with(pointer, value)).map(drop).unwrap_err();
    assert!(refusal.contains(why), "{refusal}");
}

#[test]
fn a_restored_device_serves_the_driver_it_had() {
    let bench = restore(saved()).unwrap();
    bench.offer(0, 1);
    bench.device.notified(0);
    assert_eq!(bench.used(0), 1);
    assert!(!bench.needs_reset());
}

#[test]
fn states_that_no_driver_brings_about_are_refused() {
    // Bits that there are not; DRIVER_OK without what comes before it; features that were not offered.
    refuses("/status", json!(0x10 | 15), "no driver reaches status 0x1f");
    refuses("/status", json!(4), "no driver reaches status 0x4");
    refuses(
        "/driver_features",
        json!(u64::MAX),
        "no driver reaches status 0xf with features 0xffffffffffffffff",
    );
    refuses("/driver_features", json!(0), "no driver reaches");
    refuses("/interrupt_status", json!(4), "no device reaches interrupt status 0x4");
    refuses("/device", json!("Console"), "it was another device");
}

#[test]
fn queues_that_no_driver_can_set_up_are_refused() {
    let saved = saved();
    let queue = saved.pointer("/queues/0").unwrap();
    refuses("/queues", json!([queue]), "1 queues instead of 2");
    for size in [0, 3, 16, 0x8000] {
        refuses("/queues/0/size", json!(size), "queue 0: ");
    }
    for field in ["descriptors", "available_ring", "used_ring"] {
        for address in [MEMORY_BYTES as u64, !0xf] {
            refuses(&format!("/queues/1/{field}"), json!(address), "queue 1: ");
        }
        refuses(&format!("/queues/1/{field}"), json!(AVAILABLE + 1), "queue 1: ");
    }
}
