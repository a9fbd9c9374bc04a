use super::*;
use crate::rules::Template;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

fn both(template: &str, message: &str) -> Option<Vec<Option<Vec<u8>>>> {
    let parsed = Template::parse(template).unwrap();
    let variables: Vec<usize> = (0..parsed.captures.len()).collect();
    let vm = TemplateVm::new(&parsed, false, &variables);
    let mut spans = vec![ABSENT; parsed.captures.len()];
    let mut scratch = Scratch::default();
    scratch.start(message.as_bytes());
    let outcome = vm.run(message.as_bytes(), &mut spans, &mut scratch);
    let found = (outcome == Outcome::Matched).then(|| {
        spans
            .iter()
            .map(|span| {
                (*span != ABSENT)
                    .then(|| message.as_bytes()[span.0 as usize..span.1 as usize].to_vec())
            })
            .collect::<Vec<_>>()
    });
    let regex = Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build(&format!("^{}", parsed.to_regex(false)))
        .unwrap();
    let mut captures = regex.create_captures();
    regex.captures(message, &mut captures);
    let expected = captures.is_match().then(|| {
        (1..captures.group_len())
            .map(|group| {
                captures
                    .get_group(group)
                    .map(|span| message.as_bytes()[span.range()].to_vec())
            })
            .collect::<Vec<_>>()
    });
    // Beyond the budget the expression decides, as it does for real.
    if outcome != Outcome::BudgetExceeded {
        assert_eq!(found, expected, "{template} over {message}");
    }
    expected
}

#[test]
fn the_vm_and_the_regex_agree() {
    for (template, message, expected) in [
        ("SEL is {n:int}% full", "SEL  is 85% full", Some("85")),
        ("from : {who}", "from: me and you", Some("me and you")),
        (
            "for {user} from {_:ip} port {_:int} ssh2",
            "for a from 1.2.3.4 port 5 ssh2 from 6.7.8.9 port 10 ssh2",
            Some("a from 1.2.3.4 port 5 ssh2"),
        ),
        (
            "for {user} from {_:ip} port {_:int} ssh2",
            "for a from 1.2.3.4 port 5 ssh2 x",
            None,
        ),
        (
            "Device: {d}, {_:rest}",
            "Device: /dev/sda [SAT], x, y",
            Some("/dev/sda [SAT]"),
        ),
        ("{d:word}, T", "/dev/sda, T", Some("/dev/sda")),
        ("at {p:peer}.", "at 10.0.0.1/443.", Some("10.0.0.1/443")),
        ("at {p:peer}.", "at fe80::1%eth0.", Some("fe80::1%eth0")),
        ("at {p:peer}: x", "at ::1:443: x", Some("::1:443")),
        ("at {p:ip} up", "at 999.1.1 up", None),
        ("client {c:quoted} gone", "client \"a b\" gone", Some("a b")),
        ("v {x:number} {_:(up|down)}", "v -1.50 down", Some("-1.50")),
        ("r {x:hex}", "r 0x1F", Some("0x1F")),
        ("is{? not?} {w}", "is not it", Some("it")),
        ("is{? not?} {w}", "is it", Some("it")),
        ("up{x:rest}", "up", Some("")),
        ("up {x:rest}", "up  now", Some("now")),
        ("at {p:peer} up", "at 10.0.0.1:22 up", Some("10.0.0.1:22")),
        ("at {p:peer} up", "at 10.0.0.1/ up", None),
        ("at {p:ip} up", "at 10.0.0.1/2 up", None),
        ("at {p:ip} up", "at 10.0.0.1234 up", None),
        ("at {_:peer} is {w}", "at 10.0.0.1:22  is up", Some("up")),
        ("at {_:peer} is {w}", "at ::1/22 is up", Some("up")),
        // The address is not all that looks like one.
        ("{p:peer}5", "10.0.0.15", Some("10.0.0.1")),
        ("{p:peer}5", "10.0.0.1/15", Some("10.0.0.1/1")),
        ("{p:peer}/x", "10.0.0.1/x", Some("10.0.0.1")),
        ("{p:peer}/x", "10.0.0.1/443/x", Some("10.0.0.1/443")),
        ("{p:peer}{w}", "10.0.0.1/443", Some("10.0.0.1/44")),
        ("n {n:int}/{m:int}", "n -5/+6", Some("-5")),
        ("n {n:int}.5", "n +12.5", Some("+12")),
        ("n {n:int}", "n +", None),
        ("n {n:int}", "n --5", None),
        // A step that fills its span by itself is shortened or made longer.
        ("{n:int}25", "-1225", Some("-12")),
        ("{w:word}b c", "aabb c", Some("aab")),
        ("{x:name}.{y:name}.a", "a.b.c.a", Some("a.b")),
        ("{x}, {y} end", "a, b end, c end", Some("a")),
        ("{x} b{? {n:int}?}", "a b 1 b b 12", Some("a b 1 b")),
    ] {
        let found = both(template, message).map(|captures| captures[0].clone());
        assert_eq!(
            found,
            expected.map(|text| Some(text.as_bytes().to_vec())),
            "{template}"
        );
    }
}

proptest::proptest! {
    /// Pieces and messages over a small alphabet meet often enough to matter.
    #[test]
    fn the_vm_and_the_regex_agree_on_random_templates(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "b", " ", ":", " : ", ".", "1", "{_}", "{x}", "{y:word}", "{n:int}", "{m:number}",
                "{? a?}", "{?b?}", "{?b1?}", "{t:(a1|b)}", "{i:ip}", "{p:peer}", "{q:quoted}", "{h:hex}", "{e:name}", "{o:(a|a b|1)}",
                "{s:(ab|a|b a|b1|b|1.|1:|1|:a|.a|-|/a|/)}",
                "{_:int}", "{_:word}", "{_:ip}", "{_:peer}", "/", "-", "{?{k:int}?}", "{? {l:peer}?}", "{?b{z}:?}",
            ]), 1..7),
        message in "([ab1 :.\"/+\u{a0}é-]|1\\.1\\.1\\.1|1\\.1\\.11\\.111[:/]1){0,14}",
    ) {
        let mut seen = std::collections::HashSet::new();
        let text: String = parts.iter().filter(|part| !part.starts_with('{') || part.starts_with("{?") || seen.insert(**part)).copied().collect();
        let message = message.trim();
        if Template::parse(&text).is_ok() {
            both(&text, message);
        }
    }
}

/// `smartd`'s templates, over a message that has what follows a placeholder again and again.
#[test]
fn backtracking_ends_when_its_budget_is_spent() {
    for (template, pump) in [
        ("Device: {d}, {n:int} Currently unreadable", ", 1"),
        ("Device: {d}, {a} {b}, {c} end", ", a b"),
        ("{a} : {b} : {c} : {d} end", "x   :   "),
        ("{a}x {b}", "x\t\t\t\t\t\t\t\t"),
        ("{a} {b:int} end", "x\t\t\t\t\t\t\t\t"),
        ("{w:word}b{v:word}c{u:word}d", "b"),
    ] {
        let parsed = Template::parse(template).unwrap();
        let variables: Vec<usize> = (0..parsed.captures.len()).collect();
        let vm = TemplateVm::new(&parsed, false, &variables);
        let message = format!("Device: {}!", pump.repeat(65_000 / pump.len()));
        let mut spans = vec![ABSENT; parsed.captures.len()];
        let mut scratch = Scratch::default();
        scratch.start(message.as_bytes());
        vm.run(message.as_bytes(), &mut spans, &mut scratch);
        // What may be read again, and what is read before the first failure.
        let most = 3 * message.len() + 1024;
        assert!(scratch.read <= most, "{template}: {} bytes", scratch.read);
    }
}
