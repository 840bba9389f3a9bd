//! End to end: real clients, a real daemon, real machines. One binary; a module per subject.

mod daemon;
mod exec;
mod failures;
mod images;
mod kvm;
mod lifecycle;
mod load;
mod logs;
mod recovery;
mod run;
mod runtime;
