//! Programs, run as the kernel would run them.

use proptest::prelude::*;

use super::*;

pub(in crate::seccomp) const X86_64: u32 = 0xc000_003e;
pub(in crate::seccomp) const X86: u32 = 0x4000_0003;
pub(in crate::seccomp) const ALLOWED: u32 = 0x7fff_0000;
pub(in crate::seccomp) const REFUSED: u32 = 0x0005_0001;
pub(in crate::seccomp) const NO_SUCH: u32 = 0x0005_0026;

/// What the program answers to a call.
pub(in crate::seccomp) fn ask(program: &[u8], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number.to_le_bytes(), architecture.to_le_bytes()].concat();
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let word = |offset: u32| {
        let offset = offset as usize;
        u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap())
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = &program[at * 8..at * 8 + 8];
        let code = u16::from_le_bytes([instruction[0], instruction[1]]);
        let constant = u32::from_le_bytes(instruction[4..].try_into().unwrap());
        let jump = |taken: bool| usize::from(if taken { instruction[2] } else { instruction[3] });
        at += 1 + match code {
            LOAD => {
                accumulator = word(constant);
                0
            }
            AND => {
                accumulator &= constant;
                0
            }
            JUMP => constant as usize,
            JUMP_EQUAL => jump(accumulator == constant),
            JUMP_GREATER => jump(accumulator > constant),
            JUMP_GREATER_OR_EQUAL => jump(accumulator >= constant),
            RETURN => return constant,
            other => panic!("opcode {other:#x}"),
        };
    }
}

fn profile(default: Action, rules: Vec<Rule>) -> Profile {
    Profile::of_rules(default, EPERM, rules)
}

fn argument(index: u32, op: Comparison, value: u64, value_two: u64) -> Argument {
    Argument { index, value, value_two, op }
}

fn on(name: &str, args: &[Argument]) -> Rule {
    Rule { args: args.to_vec(), ..Rule::new(name, Action::Allow) }
}

fn of_personality(program: &[u8], argument: u64) -> u32 {
    ask(program, X86_64, 135, [argument, 0, 0, 0, 0, 0])
}

#[test]
fn calls_are_found_by_their_numbers_on_either_architecture() {
    let program =
        compile(&profile(Action::Errno, vec![Rule::new("read getpid mseal", Action::Allow)]), &[]).unwrap();
    for (architecture, number, answer) in [
        (X86_64, 0, ALLOWED),
        (X86_64, 1, REFUSED),
        (X86_64, 39, ALLOWED),
        (X86_64, 38, REFUSED),
        (X86_64, 462, ALLOWED),
        (X86_64, 463, NO_SUCH),
        (X86_64, X32_NUMBERS, NO_SUCH),
        (X86, 3, ALLOWED),
        (X86, 20, ALLOWED),
        (X86, 0, REFUSED),
        (X86, 463, NO_SUCH),
        (0x4000_0028, 3, 0),
    ] {
        assert_eq!(ask(&program, architecture, number, [0; 6]), answer, "{architecture:#x} {number}");
    }
}

#[test]
fn a_permissive_profile_permits_what_it_does_not_know() {
    let program = compile(&profile(Action::Allow, vec![Rule::new("mkdir", Action::Errno)]), &[]).unwrap();
    assert_eq!(ask(&program, X86_64, 83, [0; 6]), REFUSED);
    assert_eq!(ask(&program, X86_64, 9999, [0; 6]), ALLOWED);
}

#[test]
fn an_architecture_that_is_not_named_is_not_there() {
    let only = Profile { arch_map: Vec::new(), ..profile(Action::Allow, Vec::new()) };
    let program = compile(&only, &[]).unwrap();
    assert_eq!(ask(&program, X86_64, 1, [0; 6]), ALLOWED, "the machine's own always is");
    assert_eq!(ask(&program, X86, 1, [0; 6]), 0);
    assert_eq!(ask(&program, X86_64, X32_NUMBERS + 1, [0; 6]), 0);
}

#[test]
fn a_rule_without_arguments_outweighs_those_with() {
    let rules = vec![
        on("personality", &[argument(0, Comparison::Equal, 1, 0)]),
        Rule { errno_ret: Some(7), ..Rule::new("personality", Action::Errno) },
    ];
    let program = compile(&profile(Action::KillProcess, rules), &[]).unwrap();
    assert_eq!(of_personality(&program, 1), 0x0005_0007);
}

#[test]
fn comparisons_of_one_argument_are_alternatives_and_of_several_conditions() {
    let equal = |index, value| argument(index, Comparison::Equal, value, 0);
    let either =
        compile(&profile(Action::Errno, vec![on("personality", &[equal(0, 1), equal(0, 2)])]), &[]).unwrap();
    assert_eq!([1, 2, 3].map(|value| of_personality(&either, value)), [ALLOWED, ALLOWED, REFUSED]);
    let both =
        compile(&profile(Action::Errno, vec![on("personality", &[equal(0, 1), equal(1, 2)])]), &[]).unwrap();
    assert_eq!(ask(&both, X86_64, 135, [1, 2, 0, 0, 0, 0]), ALLOWED);
    assert_eq!(ask(&both, X86_64, 135, [1, 3, 0, 0, 0, 0]), REFUSED);
}

#[test]
fn conditions_are_on_capabilities_architectures_and_kernels() {
    let conditional = |includes: Condition, excludes: Condition| Rule {
        includes,
        excludes,
        ..Rule::new("read", Action::Allow)
    };
    let none = Condition::default;
    let caps = || Condition { caps: vec!["CAP_BPF".into()], ..none() };
    let arches = |arch: &str| Condition { arches: vec![arch.into()], ..none() };
    let kernel = |version: &str| Condition { min_kernel: version.into(), ..none() };
    for (includes, excludes, capabilities, applies) in [
        (caps(), none(), &["CAP_BPF"][..], true),
        (caps(), none(), &[], false),
        (none(), caps(), &["CAP_BPF"], false),
        (none(), caps(), &[], true),
        (arches("amd64"), none(), &[], true),
        (arches("s390x"), none(), &[], false),
        (none(), arches("s390x"), &[], true),
        (kernel("4.8"), none(), &[], true),
        (kernel("7.0"), none(), &[], false),
        (kernel("6.13"), none(), &[], false),
    ] {
        let rule = conditional(includes, excludes);
        let program = compile(&profile(Action::Errno, vec![rule.clone()]), capabilities).unwrap();
        assert_eq!(ask(&program, X86_64, 0, [0; 6]) == ALLOWED, applies, "{rule:?}");
    }
    let broken = profile(Action::Errno, vec![conditional(kernel("new"), none())]);
    assert_eq!(compile(&broken, &[]), Err(ProfileError::KernelVersion("new".into())));
}

#[test]
fn a_profile_of_endless_comparisons_is_refused() {
    let rules =
        (0..2000).map(|value| on("personality", &[argument(0, Comparison::Equal, value, 0)])).collect();
    assert!(matches!(compile(&profile(Action::Errno, rules), &[]), Err(ProfileError::TooLong(_))));
}

#[test]
fn flags_have_their_bits() {
    let with = |flag: &str| Profile { flags: vec![flag.to_owned()], ..profile(Action::Allow, Vec::new()) };
    assert_eq!(flags(&with("SECCOMP_FILTER_FLAG_LOG")), Ok(2));
    assert_eq!(flags(&with("NO_SUCH")), Err(ProfileError::Flag("NO_SUCH".into())));
}

fn holds(op: Comparison, asked: u64, value: u64, value_two: u64) -> bool {
    match op {
        Comparison::NotEqual => asked != value,
        Comparison::Less => asked < value,
        Comparison::LessOrEqual => asked <= value,
        Comparison::Equal => asked == value,
        Comparison::GreaterOrEqual => asked >= value,
        Comparison::Greater => asked > value,
        Comparison::MaskedEqual => asked & value == value_two,
    }
}

const COMPARISONS: [Comparison; 7] = [
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Equal,
    Comparison::GreaterOrEqual,
    Comparison::Greater,
    Comparison::MaskedEqual,
];

proptest! {
    #[test]
    fn comparisons_are_those_of_64_bits(
        op in 0..COMPARISONS.len(),
        near in prop::sample::select(vec![0_u64, 1, 1 << 31, 1 << 32, (1 << 32) - 1, 1 << 63, u64::MAX]),
        difference in -2_i64..3, bits: u64, asked: u64, close: bool,
    ) {
        let (op, value) = (COMPARISONS[op], near);
        let asked = if close { value.wrapping_add_signed(difference) } else { asked };
        let wanted = if close { asked & value } else { bits };
        let rules = vec![on("personality", &[argument(0, op, value, wanted)])];
        let program = compile(&profile(Action::Errno, rules), &[]).unwrap();
        let expected = if holds(op, asked, value, wanted) { ALLOWED } else { REFUSED };
        prop_assert_eq!(of_personality(&program, asked), expected);
    }

    #[test]
    fn every_number_gets_its_own_answer(chosen in prop::collection::btree_set(0_u32..330, 0..100), asked in 0_u32..600) {
        let names: Vec<&str> = include_str!("../calls.txt").lines().skip(1)
            .filter_map(|line| line.split(' ').next())
            .filter(|name| calls::number(name, Architecture::X86_64).is_some_and(|number| chosen.contains(&number)))
            .collect();
        let numbers: Vec<u32> = names.iter().filter_map(|name| calls::number(name, Architecture::X86_64)).collect();
        let program = compile(&profile(Action::Errno, vec![Rule::new(&names.join(" "), Action::Allow)]), &[]).unwrap();
        let expected = if numbers.contains(&asked) {
            ALLOWED
        } else if numbers.iter().max().is_some_and(|newest| asked < *newest) {
            REFUSED
        } else {
            NO_SUCH
        };
        prop_assert_eq!(ask(&program, X86_64, asked, [0; 6]), expected);
    }
}
