//! Made packs, to measure what the number of rules costs. Each has the rules of one program, as many as a typical pack,
//! and shares beginnings among them as messages of one program share them.

/// Rules of one made pack.
pub const RULES_PER_PACK: usize = 50;

/// What rule `rule` of any made pack matches, with these in its holes.
fn message(rule: usize, name: &str, count: &str) -> String {
    let verb = ["Started", "Stopped", "Failed to open", "Lost", "Found"][rule % 5];
    let noun = ["session", "link", "volume", "tunnel", "partition"][rule / 5 % 5];
    let why = ["timed out", "is in state 4"][rule / 25];
    format!("{verb} {noun} {name} of unit {count}: it {why}")
}

/// The text of pack `number`.
pub fn pack(number: usize) -> String {
    let mut text = format!(
        "pack: made{number}\nabout: Made for a benchmark\nprofiles: [made]\nprograms:\n  prog{number}: []\nrules:\n"
    );
    for rule in 0..RULES_PER_PACK {
        let template = message(rule, "{name:word}", "{_:int}");
        let line = message(rule, "sda", "17");
        text += &format!(
            "  - event: event_{rule}\n    match: '{template}'\n    help: Made.\n    examples: [{{line: 'Feb 29 12:05:01 host prog{number}: {line}'}}]\n"
        );
    }
    text
}

/// Line `number` of a log that goes over all rules of the first `packs` packs in turn, in an order without a pattern.
pub fn line(packs: usize, number: usize) -> String {
    let program = number.wrapping_mul(7919) % packs;
    let rule = number.wrapping_mul(31).wrapping_add(number / packs) % RULES_PER_PACK;
    let name = ["sda", "ge-0/0/1", "vol_17"][number % 3];
    let message = message(rule, name, &(number % 1000).to_string());
    format!("Feb 29 12:05:01 host prog{program}[{number}]: {message}")
}
