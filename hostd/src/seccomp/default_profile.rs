//! The profile of containers that ask for none: which calls Docker's default permits, as facts, in our own order.
//!
//! Everything is refused that is not here: above all what manages the kernel, reaches into other processes, or has been
//! the way into the kernel too often (io_uring, userfaultfd, keyrings).

use super::profile::{Action, Argument, Comparison, Condition, Profile, Rule};

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Whatever the arguments and capabilities. The kernel itself still asks for the capabilities that a call needs.
const ALWAYS: &[&str] = &[
    // Files by path.
    "access chdir chmod chown chown32 creat faccessat faccessat2 fchmodat fchmodat2 fchownat fstatat64 futimesat \
     getcwd lchown lchown32 link linkat lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat openat2 \
     readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat truncate \
     truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes name_to_handle_at listmount statmount",
    // Open files.
    "_llseek close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fchdir fchmod fchown \
     fchown32 fcntl fcntl64 fdatasync flock fstat fstat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 getdents \
     getdents64 ioctl lseek pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile \
     sendfile64 splice sync sync_file_range syncfs tee vmsplice write writev cachestat",
    // Extended attributes.
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr \
     lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    // Waiting for files, and asynchronous input and output of the old kind.
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
     eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
     io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioprio_get ioprio_set poll ppoll ppoll_time64 \
     pselect6 pselect6_time64 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 \
     timerfd_settime timerfd_settime64",
    // Sockets once they are there, and pairs of them.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmmsg_time64 \
     recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    // Memory.
    "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 \
     mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages",
    // Processes, their limits and their schedule.
    "alarm execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getitimer getpgid getpgrp getpid \
     getppid getpriority getrlimit getrusage getsid gettid pause pidfd_open pidfd_send_signal prctl prlimit64 \
     process_mrelease restart_syscall rseq sched_get_priority_max sched_get_priority_min sched_getaffinity \
     sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
     sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list \
     set_thread_area set_tid_address setitimer setpgid setpriority setrlimit setsid times ugetrlimit vfork wait4 \
     waitid waitpid arch_prctl modify_ldt process_vm_readv process_vm_writev ptrace uretprobe",
    // Who a process is.
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 \
     getresuid getresuid32 getuid getuid32 landlock_add_rule landlock_create_ruleset landlock_restrict_self setfsgid \
     setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 \
     setresuid setresuid32 setreuid setreuid32 setuid setuid32",
    // Signals.
    "kill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
     rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn tgkill tkill",
    // Locks and messages between processes.
    "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake ipc mq_getsetattr mq_notify mq_open \
     mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd \
     semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
    // Time, chance and the system's name.
    "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
     clock_nanosleep clock_nanosleep_time64 getrandom gettimeofday nanosleep sysinfo time timer_create timer_delete \
     timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 uname",
];

/// Only with a capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// `CLONE_NEW…` of `linux/sched.h`, all but the time namespace.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// `AF_VSOCK`: the way to the machine's host.
const VSOCK: u64 = 40;
/// What personality(2) may set: Linux, the same without random addresses, either with uname of Linux 2.6; and ask.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

pub(super) fn profile() -> Profile {
    let mut rules: Vec<Rule> = ALWAYS.iter().map(|names| Rule::new(names, Action::Allow)).collect();
    rules.extend(WITH_CAPABILITY.iter().map(|(capability, names)| Rule {
        includes: capability_is(capability),
        ..Rule::new(names, Action::Allow)
    }));
    rules.extend(PERSONALITIES.map(|value| on_first_argument("personality", Comparison::Equal, value)));
    rules.push(on_first_argument("socket", Comparison::NotEqual, VSOCK));
    rules.push(Rule {
        excludes: capability_is("CAP_SYS_ADMIN"),
        ..on_first_argument("clone", Comparison::MaskedEqual, NEW_NAMESPACES)
    });
    // Its flags lie in memory, where no filter looks; programs that are told it does not exist use clone.
    rules.push(Rule {
        errno_ret: Some(ENOSYS),
        excludes: capability_is("CAP_SYS_ADMIN"),
        ..Rule::new("clone3", Action::Errno)
    });
    Profile::of_rules(Action::Errno, EPERM, rules)
}

fn capability_is(name: &str) -> Condition {
    Condition { caps: vec![name.to_owned()], ..Condition::default() }
}

fn on_first_argument(name: &str, op: Comparison, value: u64) -> Rule {
    let argument = Argument { index: 0, value, value_two: 0, op };
    Rule { args: vec![argument], ..Rule::new(name, Action::Allow) }
}

#[cfg(test)]
mod tests {
    use super::super::calls::number;
    use super::super::program::tests::{ALLOWED, NO_SUCH, REFUSED, X86, X86_64, ask};
    use super::super::program::{Architecture, compile};
    use super::*;

    fn answer(capabilities: &[&str], name: &str, first_argument: u64) -> u32 {
        let program = compile(&profile(), capabilities).unwrap();
        let number = number(name, Architecture::X86_64).unwrap();
        ask(&program, X86_64, number, [first_argument, 0, 0, 0, 0, 0])
    }

    #[test]
    fn every_name_is_a_call_and_stands_once() {
        let known = |name: &&str| {
            number(name, Architecture::X86_64).is_some() || number(name, Architecture::X86).is_some()
        };
        // Newer than the guest's kernel, and there for the day when it is not.
        let future = ["getxattrat", "listxattrat", "removexattrat", "setxattrat"];
        let always: Vec<&str> = ALWAYS.iter().flat_map(|names| names.split_whitespace()).collect();
        for name in always.iter().filter(|name| !future.contains(name)) {
            assert!(known(name), "{name}");
            assert_eq!(always.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
        for name in WITH_CAPABILITY.iter().flat_map(|(_, names)| names.split_whitespace()) {
            assert!(known(&name) && !always.contains(&name), "{name}");
        }
    }

    #[test]
    fn ordinary_calls_pass_and_dangerous_ones_do_not() {
        for name in ["read", "mmap", "execve", "futex", "statx", "setuid", "ptrace", "fork", "vfork"] {
            assert_eq!(answer(&[], name, 0), ALLOWED, "{name}");
        }
        for name in
            ["mount", "bpf", "io_uring_setup", "userfaultfd", "keyctl", "kexec_load", "swapon", "unshare"]
        {
            assert_eq!(answer(&[], name, 0), REFUSED, "{name}");
        }
        assert_eq!(answer(&["CAP_SYS_ADMIN"], "mount", 0), ALLOWED);
        assert_eq!(answer(&["CAP_SYS_CHROOT"], "chroot", 0), ALLOWED);
        assert_eq!(answer(&[], "chroot", 0), REFUSED);
    }

    #[test]
    fn arguments_decide_about_sockets_namespaces_and_personalities() {
        assert_eq!(
            [1, 2, 10, 16, 40].map(|family| answer(&[], "socket", family)),
            [ALLOWED, ALLOWED, ALLOWED, ALLOWED, REFUSED]
        );
        let sigchld = 17;
        assert_eq!(answer(&[], "clone", sigchld), ALLOWED);
        assert_eq!(answer(&[], "clone", sigchld | 0x1000_0000), REFUSED, "a user namespace");
        assert_eq!(answer(&["CAP_SYS_ADMIN"], "clone", 0x1000_0000), ALLOWED);
        assert_eq!(answer(&[], "clone3", 0), NO_SUCH);
        assert_eq!(answer(&["CAP_SYS_ADMIN"], "clone3", 0), ALLOWED);
        assert_eq!(answer(&[], "personality", 0xffff_ffff), ALLOWED);
        assert_eq!(answer(&[], "personality", 0x4_0000), REFUSED);
    }

    #[test]
    fn programs_of_32_bits_have_the_same_rules() {
        let program = compile(&profile(), &[]).unwrap();
        let of = |name| ask(&program, X86, number(name, Architecture::X86).unwrap(), [0; 6]);
        assert_eq!((of("socketcall"), of("mount"), of("clone3")), (ALLOWED, REFUSED, NO_SUCH));
    }

    #[test]
    fn it_is_small_enough_to_be_sent_and_proved_at_every_start() {
        assert!(compile(&profile(), &[]).unwrap().len() / 8 < 1000);
    }
}
