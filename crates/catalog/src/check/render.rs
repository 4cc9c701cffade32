//! Findings as people read them: with the line they are about.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;

use crate::finding::{Finding, Origin, Severity};

/// All findings with their source lines, and a last line that counts them. Reads the files the findings are about;
/// one that cannot be read is left without its lines.
pub fn render(findings: &[Finding]) -> String {
    let mut texts: HashMap<&Origin, Option<String>> = HashMap::new();
    let mut page = String::new();
    for finding in findings {
        let text = texts
            .entry(&finding.origin)
            .or_insert_with(|| match &finding.origin {
                Origin::BuiltIn | Origin::Stored => None,
                Origin::File(path) => fs::read_to_string(path).ok(),
            });
        page.push_str(&excerpt(finding, text.as_deref()));
        page.push('\n');
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    let warnings = findings.len() - errors;
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    writeln!(
        page,
        "{errors} error{}, {warnings} warning{}",
        plural(errors),
        plural(warnings)
    )
    .expect("writing to a string cannot fail");
    page
}

/// One finding with the line of `text` it is about.
///
/// ```text
/// error[auth-mode]: acme.auth_mode: `OATH2` is no auth mode
///  --> providers.yaml:3:16
///   |
/// 3 |     auth_mode: OATH2
///   |                ^^^^^ did you mean `OAUTH2`?
/// ```
pub fn excerpt(finding: &Finding, text: Option<&str>) -> String {
    let mut block = format!("{}[{}]: ", finding.severity, finding.rule);
    if let Some(subject) = finding.subject() {
        block.push_str(&subject);
        block.push_str(": ");
    }
    block.push_str(&finding.message);
    block.push('\n');
    let hint = finding
        .suggestion
        .as_ref()
        .map(|suggestion| format!("did you mean `{suggestion}`?"));
    let place = finding.line.zip(finding.column);
    let line_text = place
        .zip(text)
        .and_then(|((line, _), text)| text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?));
    let (Some((line, column)), Some(line_text)) = (place, line_text) else {
        let position = place
            .map(|(line, column)| format!(":{line}:{column}"))
            .unwrap_or_default();
        let _ = writeln!(block, " --> {}{position}", finding.origin);
        if let Some(hint) = hint {
            let _ = writeln!(block, "  = {hint}");
        }
        return block;
    };
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let before = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    // Tabs keep their width, so that the mark is under what it marks.
    let indent: String = line_text
        .chars()
        .take(before)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let length = marked(line_text.chars().skip(before));
    let _ = writeln!(block, "{margin}--> {}:{line}:{column}", finding.origin);
    let _ = writeln!(block, "{margin} |");
    let _ = writeln!(block, "{number} | {line_text}");
    let marks = "^".repeat(length);
    let _ = writeln!(
        block,
        "{margin} | {indent}{marks}{}",
        hint.map(|hint| format!(" {hint}")).unwrap_or_default()
    );
    block
}

/// How many characters to mark: the word or placeholder that begins there.
fn marked(rest: impl Iterator<Item = char>) -> usize {
    let rest: Vec<char> = rest.collect();
    let end = if rest.starts_with(&['$', '{']) {
        rest.iter().position(|c| *c == '}').map(|end| end + 1)
    } else {
        rest.iter()
            .position(|c| c.is_whitespace() || matches!(c, ':' | ',' | '}' | ']' | '\'' | '"'))
    };
    end.unwrap_or(rest.len()).max(1)
}
