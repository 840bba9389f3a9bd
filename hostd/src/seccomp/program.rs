//! A profile as the kernel takes it: a program of classic BPF over `struct seccomp_data` (seccomp(2)).
//!
//! A search tree over the numbers of calls, with runs of numbers that share an answer as its leaves; where arguments
//! decide, a leaf is comparisons. The kernel asks the program at every call that is not always allowed, so depth counts.

use std::collections::BTreeMap;

use super::calls;
use super::profile::{Action, Argument, Comparison, Condition, Profile, ProfileError, Rule};

/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
/// The kernel that machines boot, for conditions on it.
const GUEST_KERNEL: (u32, u32) = (6, 12);

/// Offsets in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;

/// Numbers from here on are those of x32, which the guest's kernel does not run.
const X32_NUMBERS: u32 = 0x4000_0000;
const ENOSYS: u16 = 38;
const EPERM: u16 = 1;

/// Opcodes of `linux/bpf_common.h`: class, size, mode and operation.
const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;

/// What programs of a guest can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    X86,
}

impl Architecture {
    /// `AUDIT_ARCH_…` of `linux/audit.h`.
    fn audit_number(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
        }
    }
}

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    constant: u32,
}

const fn plain(code: u16, constant: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, constant }
}

/// `SECCOMP_RET_…`, with an errno in its low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer(u32);

impl Answer {
    /// What programs of an architecture get that the profile does not name, as libseccomp has it.
    const WRONG_ARCHITECTURE: Self = Self(0);
    const NO_SUCH_CALL: Self = Self(0x0005_0000 | ENOSYS as u32);

    fn of(action: Action, errno: Option<u16>) -> Self {
        let with = |action: u32| action | u32::from(errno.unwrap_or(EPERM));
        Self(match action {
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Trap => 0x0003_0000,
            // Notifications are refused when the profile is read.
            Action::Errno | Action::Notify => with(0x0005_0000),
            Action::Trace => with(0x7ff0_0000),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        })
    }

    fn instruction(self) -> Instruction {
        plain(RETURN, self.0)
    }
}

/// What happens to one call.
#[derive(Clone, Debug, PartialEq)]
enum Decision {
    Always(Answer),
    /// The first whose comparisons all hold, or else the profile's default.
    ByArguments(Vec<(Vec<Argument>, Answer)>),
}

/// The program for a process with these capabilities, by their names: instructions of 8 bytes each, little endian.
///
/// # Errors
/// A condition that cannot be read, or a profile that comes to more than the kernel takes.
pub(super) fn compile(profile: &Profile, capabilities: &[&str]) -> Result<Vec<u8>, ProfileError> {
    let mut rules = Vec::new();
    for rule in &profile.syscalls {
        if applies(rule, capabilities)? {
            rules.push(rule);
        }
    }
    let named = architectures(profile);
    let mut program = vec![plain(LOAD, ARCHITECTURE_OFFSET)];
    for (architecture, name) in
        [(Architecture::X86_64, "SCMP_ARCH_X86_64"), (Architecture::X86, "SCMP_ARCH_X86")]
    {
        // The machine's own architecture is always among them.
        if architecture == Architecture::X86_64 || named.contains(&name) {
            let section = section(profile, &rules, architecture, named.contains(&"SCMP_ARCH_X32"));
            program.push(Instruction {
                code: JUMP_EQUAL,
                if_true: 1,
                if_false: 0,
                constant: architecture.audit_number(),
            });
            program.push(skip(section.len()));
            program.extend(section);
        }
    }
    program.push(Answer::WRONG_ARCHITECTURE.instruction());
    if program.len() > MAX_INSTRUCTIONS {
        return Err(ProfileError::TooLong(program.len()));
    }
    Ok(program.iter().flat_map(bytes).collect())
}

/// `SECCOMP_FILTER_FLAG_…`.
///
/// # Errors
/// A flag that no kernel has.
pub(super) fn flags(profile: &Profile) -> Result<u32, ProfileError> {
    let bit = |flag: &String| match flag.as_str() {
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(1),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(2),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(4),
        _ => Err(ProfileError::Flag(flag.clone())),
    };
    profile.flags.iter().try_fold(0, |flags, flag| Ok(flags | bit(flag)?))
}

fn architectures(profile: &Profile) -> Vec<&str> {
    let own = profile.arch_map.iter().filter(|map| map.architecture == "SCMP_ARCH_X86_64");
    let mapped = own.flat_map(|map| [&map.architecture].into_iter().chain(&map.sub_architectures));
    profile.architectures.iter().chain(mapped).map(String::as_str).collect()
}

fn applies(rule: &Rule, capabilities: &[&str]) -> Result<bool, ProfileError> {
    let has = |name: &String| capabilities.contains(&name.as_str());
    let is_ours = |name: &String| matches!(name.as_str(), "amd64" | "x86_64");
    let Condition { caps, arches, min_kernel } = &rule.includes;
    let included = caps.iter().all(has)
        && (arches.is_empty() || arches.iter().any(is_ours))
        && (min_kernel.is_empty() || GUEST_KERNEL >= version(min_kernel)?);
    let Condition { caps, arches, min_kernel } = &rule.excludes;
    let excluded = caps.iter().any(has)
        || arches.iter().any(is_ours)
        || (!min_kernel.is_empty() && GUEST_KERNEL >= version(min_kernel)?);
    Ok(included && !excluded)
}

fn version(text: &str) -> Result<(u32, u32), ProfileError> {
    let parse = || {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    parse().ok_or_else(|| ProfileError::KernelVersion(text.to_owned()))
}

/// The calls of one architecture, from the loading of the number on.
fn section(
    profile: &Profile,
    rules: &[&Rule],
    architecture: Architecture,
    with_x32: bool,
) -> Vec<Instruction> {
    let default = Answer::of(profile.default_action, profile.default_errno_ret);
    let decisions = decisions(rules, architecture, default);
    let tree = tree(&ranges(decisions, profile.default_action, default), architecture, default);
    let mut section = vec![plain(LOAD, NUMBER_OFFSET)];
    if architecture == Architecture::X86_64 {
        let answer = if with_x32 { Answer::NO_SUCH_CALL } else { Answer::WRONG_ARCHITECTURE };
        section.push(Instruction {
            code: JUMP_GREATER_OR_EQUAL,
            if_true: 0,
            if_false: 1,
            constant: X32_NUMBERS,
        });
        section.push(answer.instruction());
    }
    section.extend(tree);
    section
}

/// What the rules say of each call that they name. A rule without arguments outweighs those with, and one that says what
/// the default says anyway does not count, as with runc.
fn decisions(rules: &[&Rule], architecture: Architecture, default: Answer) -> BTreeMap<u32, Decision> {
    let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
    for rule in rules {
        let answer = Answer::of(rule.action, rule.errno_ret);
        if answer == default {
            continue;
        }
        for number in rule.names().filter_map(|name| calls::number(name, architecture)) {
            let decision = decisions.entry(number).or_insert_with(|| Decision::ByArguments(Vec::new()));
            match decision {
                Decision::Always(_) => {}
                Decision::ByArguments(_) if rule.args.is_empty() => *decision = Decision::Always(answer),
                Decision::ByArguments(cases) => {
                    cases.extend(alternatives(&rule.args).into_iter().map(|case| (case, answer)));
                }
            }
        }
    }
    decisions
}

/// All comparisons of a rule have to hold; but of several on one argument, one.
fn alternatives(arguments: &[Argument]) -> Vec<Vec<Argument>> {
    let repeats =
        |argument: &Argument| arguments.iter().filter(|other| other.index == argument.index).count() > 1;
    if arguments.iter().any(repeats) {
        arguments.iter().map(|argument| vec![*argument]).collect()
    } else {
        vec![arguments.to_vec()]
    }
}

/// Where runs of numbers with one decision begin. A call newer than any that a restrictive profile names does not exist
/// for its programs: they have a fallback for that, and none for "not permitted".
fn ranges(
    decisions: BTreeMap<u32, Decision>,
    default_action: Action,
    default: Answer,
) -> Vec<(u32, Decision)> {
    let permissive = matches!(default_action, Action::Allow | Action::Log | Action::Trace);
    let beyond = if permissive { default } else { Answer::NO_SUCH_CALL };
    let mut ranges: Vec<(u32, Decision)> = Vec::new();
    let mut add = |start: u32, decision: Decision| {
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((start, decision));
        }
    };
    let mut next = 0;
    for (number, decision) in decisions {
        if number > next {
            add(next, Decision::Always(default));
        }
        add(number, decision);
        next = number + 1;
    }
    add(next, Decision::Always(beyond));
    ranges
}

fn tree(ranges: &[(u32, Decision)], architecture: Architecture, default: Answer) -> Vec<Instruction> {
    match ranges {
        [] => vec![default.instruction()],
        [(_, decision)] => leaf(decision, architecture, default),
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let lower = tree(lower, architecture, default);
            let mut tree = branch(upper[0].0, lower.len());
            tree.extend(lower);
            tree.extend(self::tree(upper, architecture, default));
            tree
        }
    }
}

/// Goes on behind the next `length` instructions if the number is at least this.
fn branch(number: u32, length: usize) -> Vec<Instruction> {
    let compare =
        |if_true, if_false| Instruction { code: JUMP_GREATER_OR_EQUAL, if_true, if_false, constant: number };
    match u8::try_from(length) {
        Ok(length) => vec![compare(length, 0)],
        Err(_) => vec![compare(0, 1), skip(length)],
    }
}

fn skip(length: usize) -> Instruction {
    plain(JUMP, u32::try_from(length).expect("programs are thousands of instructions at most"))
}

fn leaf(decision: &Decision, architecture: Architecture, default: Answer) -> Vec<Instruction> {
    match decision {
        Decision::Always(answer) => vec![answer.instruction()],
        Decision::ByArguments(cases) => {
            let mut leaf: Vec<Instruction> = Vec::new();
            for (comparisons, answer) in cases {
                leaf.extend(case(comparisons, *answer, architecture));
            }
            leaf.push(default.instruction());
            leaf
        }
    }
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum Target {
    Next,
    /// Over so many instructions of the same comparison, which holds already.
    Over(u8),
    /// To the next case.
    Fails,
}

/// Answers if every comparison holds; what does not jumps behind the answer.
fn case(comparisons: &[Argument], answer: Answer, architecture: Architecture) -> Vec<Instruction> {
    let steps: Vec<(u16, u32, Target, Target)> =
        comparisons.iter().flat_map(|argument| compare(argument, architecture)).collect();
    let length = steps.len();
    let mut case: Vec<Instruction> = Vec::with_capacity(length + 1);
    for (index, (code, constant, if_true, if_false)) in steps.into_iter().enumerate() {
        let offset = |target| match target {
            Target::Next => 0,
            Target::Over(count) => count,
            // At most six arguments of six instructions each.
            Target::Fails => u8::try_from(length - index).expect("a case is shorter than a jump"),
        };
        case.push(Instruction { code, if_true: offset(if_true), if_false: offset(if_false), constant });
    }
    case.push(answer.instruction());
    case
}

/// One comparison, the argument's upper half first; programs of 32 bits have none.
fn compare(argument: &Argument, architecture: Architecture) -> Vec<(u16, u32, Target, Target)> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
    use Target::{Fails, Next, Over};
    let offset = ARGUMENTS_OFFSET + 8 * argument.index;
    let load_low = (LOAD, offset, Next, Next);
    let load_high = (LOAD, offset + 4, Next, Next);
    let [high, low] = halves(argument.value);
    let upper = match argument.op {
        Equal => vec![load_high, (JUMP_EQUAL, high, Next, Fails)],
        NotEqual => vec![load_high, (JUMP_EQUAL, high, Next, Over(2))],
        Greater | GreaterOrEqual => {
            vec![load_high, (JUMP_GREATER, high, Over(3), Next), (JUMP_EQUAL, high, Next, Fails)]
        }
        Less | LessOrEqual => {
            vec![load_high, (JUMP_GREATER, high, Fails, Next), (JUMP_EQUAL, high, Next, Over(2))]
        }
        MaskedEqual => {
            let [wanted, _] = halves(argument.value_two);
            vec![load_high, (AND, high, Next, Next), (JUMP_EQUAL, wanted, Next, Fails)]
        }
    };
    let lower = match argument.op {
        Equal => vec![load_low, (JUMP_EQUAL, low, Next, Fails)],
        NotEqual => vec![load_low, (JUMP_EQUAL, low, Fails, Next)],
        Greater => vec![load_low, (JUMP_GREATER, low, Next, Fails)],
        GreaterOrEqual => vec![load_low, (JUMP_GREATER_OR_EQUAL, low, Next, Fails)],
        Less => vec![load_low, (JUMP_GREATER_OR_EQUAL, low, Fails, Next)],
        LessOrEqual => vec![load_low, (JUMP_GREATER, low, Fails, Next)],
        MaskedEqual => {
            let [_, wanted] = halves(argument.value_two);
            vec![load_low, (AND, low, Next, Next), (JUMP_EQUAL, wanted, Next, Fails)]
        }
    };
    match architecture {
        Architecture::X86_64 => [upper, lower].concat(),
        Architecture::X86 => lower,
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

fn bytes(instruction: &Instruction) -> [u8; 8] {
    let [code_low, code_high] = instruction.code.to_le_bytes();
    let [a, b, c, d] = instruction.constant.to_le_bytes();
    [code_low, code_high, instruction.if_true, instruction.if_false, a, b, c, d]
}

#[cfg(test)]
pub(super) mod tests;
