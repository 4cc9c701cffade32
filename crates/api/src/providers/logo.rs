//! Neutral marks instead of other companies' logos: initials on a colour of their own.

/// Two initials of `display_name` on a background chosen by `name`, as SVG.
pub(super) fn letter_mark(name: &str, display_name: &str) -> String {
    let initials: String = display_name
        .split(|c: char| !c.is_alphanumeric())
        .filter_map(|word| word.chars().next())
        .take(2)
        .flat_map(char::to_uppercase)
        .collect();
    let hue = name
        .bytes()
        .fold(0_u32, |hash, byte| (hash * 31 + u32::from(byte)) % 360);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 64 64\" role=\"img\">\
         <rect width=\"64\" height=\"64\" rx=\"12\" fill=\"hsl({hue},45%,42%)\"/>\
         <text x=\"32\" y=\"33\" fill=\"#fff\" font-family=\"system-ui,sans-serif\" font-size=\"26\" \
         font-weight=\"600\" text-anchor=\"middle\" dominant-baseline=\"central\">{initials}</text></svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initials_need_no_escaping() {
        let text = |display| letter_mark("a", display);
        assert!(text("Plain OAuth").contains(">PO</text>"));
        assert!(text("<script> & \"x\"").contains(">SX</text>"));
        assert!(text("Éclair").contains(">É</text>"));
        assert!(text("").contains("></text>"));
        assert_ne!(letter_mark("a", "X"), letter_mark("b", "X"));
    }
}
