//! Files of shares as programs use them: what a file system of the host's own can do, from one machine and from two.

use crate::container::{Change, container};
use crate::machine::Machine;
use crate::shares::{Server, share};
use berth_protocol::agent::{Mount, StartContainer};

/// What the host makes before, for the machine to list.
const MANY: usize = 100_000;

/// A word for each thing that is not as it should be.
const PROGRAM: &str = r#"
    use Fcntl qw(:DEFAULT :flock :seek :mode); use Errno;
    $| = 1; chdir "/mnt" or die $!;
    sub check { my ($what, $holds) = @_; print "$what: $!\n" unless $holds }
    sub put { my ($name, $text) = @_; open(my $to, ">", $name) or return 0; print $to $text; close $to }
    sub get { my ($name) = @_; open(my $from, "<", $name) or return "nothing"; local $/; my $all = <$from>; $all }
    sub size { -s $_[0] }

    # Names.
    check("long", put("n" x 255, "x") && -e "n" x 255);
    check("too long", !put("n" x 256, "x") && $!{ENAMETOOLONG});
    check("bytes", put("\xff\xfe \n", "x") && get("\xff\xfe \n") eq "x");
    opendir(my $many, "many"); my $count = () = readdir $many; check("many: $count", $count == 100_002);

    # Renames, links and files without a name.
    put("old", "old"); put("new", "new"); check("rename over", rename("new", "old") && get("old") eq "new" && !-e "new");
    check("hard link", link("old", "linked") && (stat "old")[3] == 2 && (stat "old")[1] == (stat "linked")[1]);
    open(my $open, "+<", "linked"); unlink "linked", "old"; syswrite $open, "kept";
    sysseek $open, 0, 0; sysread $open, my $kept, 9; check("unlinked and open", $kept eq "kept" && (stat $open)[3] == 0);
    mkdir "full"; put("full/x", ""); check("not empty", !rmdir("full") && $!{ENOTEMPTY});
    check("exclusive", !sysopen(my $none, "full/x", O_CREAT | O_EXCL | O_RDWR) && $!{EEXIST});

    # Sizes and holes.
    sysopen(my $large, "large", O_CREAT | O_RDWR); sysseek $large, 5 << 30, 0; syswrite $large, "end";
    check("beyond 4 GiB", size("large") == (5 << 30) + 3 && (stat "large")[12] < 1000);
    check("data after a hole", sysseek($large, 0, 3) >= 4 << 30);
    sysopen(my $holed, "holed", O_CREAT | O_RDWR); syswrite $holed, "x" x 262_144;
    check("punch", syscall(285, fileno $holed, 3, 65_536, 65_536) == 0);
    sysseek $holed, 65_536, 0; sysread $holed, my $zeros, 65_536; check("zeros", $zeros eq "\0" x 65_536);
    check("hole", sysseek($holed, 0, 4) == 65_536);
    check("fsync", syscall(74, fileno $holed) == 0);
    check("truncate", truncate("holed", 10) && size("holed") == 10);

    # A mapping that is shared: what is written to it is in the file.
    put("mapped", "a" x 8192); sysopen(my $mapped, "mapped", O_RDWR);
    my $at = syscall(9, 0, 8192, 3, 1, fileno $mapped, 0); check("mmap", $at > 0);
    pipe(my $out, my $in); syswrite $in, "by memory"; check("fault", syscall(0, fileno $out, $at + 4096, 9) == 9);
    check("msync", syscall(26, $at, 8192, 4) == 0); syscall(11, $at, 8192);
    check("mapped", substr(get("mapped"), 4090, 20) eq "a" x 6 . "by memory" . "a" x 5);

    # Owners, modes and attributes.
    check("chown", chown(7, 8, "mapped") && (stat "mapped")[4] == 7 && (stat "mapped")[5] == 8);
    put("program", "x"); chmod 06777, "program"; chmod 0777, ".";
    unless (my $child = fork) { $) = "65534 65534"; $> = 65534; open(my $to, ">>", "program") or exit 1; print $to "y"; close $to; put("theirs", "x"); exit 0 }
    wait; check("set-user-ID is lost", $? == 0 && ((stat "program")[2] & 06000) == 0 && (stat "theirs")[4] == 65534);
    my ($file, $name, $value, $read) = ("mapped", "user.colour", "blue", " " x 16);
    check("setxattr", syscall(188, $file, $name, $value, 4, 0) == 0);
    check("getxattr", syscall(191, $file, $name, $read, 16) == 4 && substr($read, 0, 4) eq "blue");
    check("times", utime(1_000_000_000, 1_100_000_000, "mapped") && (stat "mapped")[9] == 1_100_000_000);

    # Several at once: appends are whole, locks hold, everybody's files are there.
    put("log", ""); put("counter", "0");
    for my $child (1 .. 4) {
        next if fork; open(my $log, ">>", "log");
        for (1 .. 100) { syswrite $log, "$child" x 10 . "\n" }
        for (1 .. 25) {
            sysopen(my $counter, "counter", O_RDWR); flock $counter, LOCK_EX;
            sysread $counter, my $number, 20; sysseek $counter, 0, 0; syswrite $counter, $number + 1; close $counter;
        }
        for my $one (1 .. 50) { put("file-$child-$one", $one); rename "file-$child-$one", "done-$child-$one" }
        exit 0;
    }
    1 while wait != -1;
    check("appends", (grep { /^(\d)\1{9}$/ } split /\n/, get("log")) == 400);
    check("flock: " . get("counter"), get("counter") == 100);
    check("many at once", (() = glob "done-*") == 200 && !(() = glob "file-*"));
    sysopen(my $locked, "counter", O_RDWR); my $whole = pack("ssx4qqi", F_WRLCK, 0, 0, 0, 0);
    check("fcntl", fcntl($locked, F_SETLK, $whole));
    unless (fork) { sysopen(my $same, "counter", O_RDWR); my $mine = $whole; exit(fcntl($same, F_SETLK, $mine) ? 1 : 0) }
    wait; check("fcntl holds", $? == 0);

    # Limits.
    check("read-only", !put("/etc/mine", "x") && $!{EROFS});
    sysopen(my $small, "/srv/file", O_CREAT | O_RDWR); my $left = 1;
    for (1 .. 40) { $left = syswrite $small, "x" x 65_536 or last } check("no space", !$left && $!{ENOSPC});
    print "end\n";"#;

/// The host's perl in the container `id`, which has the data in /mnt and what it says in its standard output.
pub(crate) fn perl(id: &str, program: &str, arguments: &[&str], mounts: Vec<Mount>) -> StartContainer {
    let shell = [
        "sh",
        "-c",
        "mount -o bind /dev /tools/dev && exec chroot /tools /usr/bin/perl -e \"$@\" 2>&1",
        "sh",
        program,
    ];
    container(id, &[&shell, arguments].concat()).with(|container| container.mounts = mounts)
}

pub(crate) fn tools_and_data() -> Vec<Mount> {
    vec![share("tools", "", "/tools", &[]), share("data", "", "/tools/mnt", &[])]
}

#[test]
fn programs_find_a_file_system_and_two_machines_the_same() {
    let test = "programs_find_a_file_system_and_two_machines_the_same";
    let Some(server) = Server::with_tools(test) else { return };
    let Some(other) = server.beside(test) else { return };
    let many = server.path("data/many");
    std::fs::create_dir(&many).unwrap();
    for number in 0..MANY {
        std::fs::File::create(many.join(number.to_string())).unwrap();
    }
    let Some(machine) = Machine::boot_with_shares(test, server.socket()) else { return };
    let mut client = machine.client();
    let mounts = [tools_and_data(), vec![share("small", "", "/tools/srv", &[])]].concat();
    client.start(perl("c1", PROGRAM, &[], mounts)).unwrap();
    assert_eq!(client.stdout("c1"), "end\n");

    // Another machine, which knows the files already when the first one changes them.
    let Some(beside) = Machine::boot_with_shares(test, other.socket()) else { return };
    let mut neighbour = beside.client();
    let wait_and_read = r#"
        $| = 1; chdir "/mnt"; my $last = "";
        sub get { my ($name) = @_; open(my $from, "<", $name) or return ""; local $/; my $all = <$from>; $all }
        for my $round (1 .. 30) {
            until (get("turn") eq "$round") { select undef, undef, undef, 0.01 }
            print "$round: ", get("grown"), " ", get("replaced"), "\n" unless get("grown") eq "x" x $round && get("replaced") eq "r$round";
            open(my $answer, ">", "answer.new"); print $answer $round; close $answer; rename "answer.new", "answer";
        }
        print "same\n";"#;
    let write_and_wait = r#"
        chdir "/mnt";
        sub get { my ($name) = @_; open(my $from, "<", $name) or return ""; local $/; my $all = <$from>; $all }
        for my $round (1 .. 30) {
            open(my $grown, ">>", "grown"); print $grown "x"; close $grown;
            open(my $next, ">", "replaced.new"); print $next "r$round"; close $next; rename "replaced.new", "replaced";
            open(my $turn, ">", "turn.new"); print $turn $round; close $turn; rename "turn.new", "turn";
            until (get("answer") eq "$round") { select undef, undef, undef, 0.01 }
        }"#;
    neighbour.start(perl("c1", wait_and_read, &[], tools_and_data())).unwrap();
    client.remove("c1").unwrap();
    client.start(perl("c2", write_and_wait, &[], tools_and_data())).unwrap();
    assert_eq!(neighbour.stdout("c1"), "same\n", "what one has closed, the other opens");
    assert_eq!(client.wait("c2").code, 0);
}
