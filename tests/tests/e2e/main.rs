//! End to end: real clients, a real daemon, real machines. One binary; a module per subject.

mod archives;
mod attached;
mod bollard;
mod commit;
mod copies;
mod daemon;
mod docker_cli;
mod exec;
mod export;
mod failures;
mod hostile;
mod image_disk;
mod images;
mod killed;
mod kvm;
mod lifecycle;
mod lives;
mod load;
mod logs;
mod python;
mod recovery;
mod registry;
mod run;
mod runtime;
mod store;
mod truth;
