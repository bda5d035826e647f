//! Text that anybody may have chosen: nothing in it may begin another line or steer what shows it.

/// Whether a character could: control characters, ends of lines, and those that turn the direction of what follows.
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// With numbers in the place of such characters.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// With U+FFFD in the place of each such character: as many as before, as tables want them.
pub fn replaced(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        for c in ['\n', '\u{1b}', '\u{9b}', '\u{2028}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'] {
            assert_eq!(replaced(&format!("Jo{c}ë")), "Jo\u{fffd}ë");
            assert_eq!(escaped(&format!("Jo{c}ë")), format!("Jo{}ë", c.escape_default()));
        }
        // What belongs to words stays: joiners, and marks in a text from right to left.
        let plain = "Bob\\ \u{5d0}\u{200f} \u{200d}";
        assert_eq!((replaced(plain), escaped(plain)), (plain.to_owned(), plain.to_owned()));
    }
}
