//! Reports: Markdown with the date, the commit and the command.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use patchbay_ambient::Ambient;

/// A proof's or benchmark's report.
#[derive(Debug)]
pub struct Report {
    title: String,
    text: String,
    held: Vec<(String, Verdict)>,
}

/// Whether a claim held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did.
    Holds,
    /// It did not.
    Fails,
}

impl Report {
    /// A report headed by `title` and what it shows.
    pub fn new(title: &str, shows: &str) -> Self {
        Self {
            title: title.to_owned(),
            text: format!("{shows}\n"),
            held: Vec::new(),
        }
    }

    /// A heading.
    pub fn section(&mut self, heading: &str) {
        let _ = write!(self.text, "\n## {heading}\n\n");
    }

    /// A line of text.
    pub fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{line}");
    }

    /// A table's head.
    pub fn head(&mut self, cells: &[&str]) {
        self.row(&cells.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.line(&format!("|{}", "---|".repeat(cells.len())));
    }

    /// A table's row.
    pub fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    /// States whether a claim held.
    pub fn claim(&mut self, claim: &str, holds: bool) {
        let verdict = if holds { Verdict::Holds } else { Verdict::Fails };
        self.held.push((claim.to_owned(), verdict));
    }

    /// Whether every claim held, and there was one.
    pub fn holds(&self) -> bool {
        !self.held.is_empty() && self.failed().is_empty()
    }

    /// The claims that did not hold.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.held.iter().filter(|(_, verdict)| *verdict == Verdict::Fails);
        failed.map(|(claim, _)| claim.as_str()).collect()
    }

    /// The whole, as Markdown.
    pub fn markdown(&self, command: &str, ambient: &Ambient) -> String {
        let mut whole = format!("# {}\n\n", self.title);
        let _ = writeln!(
            whole,
            "{} · commit {} · `{command}` · {}\n",
            ambient.now().strftime("%Y-%m-%d %H:%M UTC"),
            commit(),
            machine()
        );
        if !self.held.is_empty() {
            let verdict = if self.holds() { "holds" } else { "DOES NOT HOLD" };
            let _ = writeln!(whole, "**Verdict: {verdict}.**\n");
            for (claim, verdict) in &self.held {
                let mark = if *verdict == Verdict::Holds { "x" } else { " " };
                let _ = writeln!(whole, "- [{mark}] {claim}");
            }
            whole.push('\n');
        }
        whole.push_str(&self.text);
        whole
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path, command: &str, ambient: &Ambient) -> anyhow::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, self.markdown(command, ambient))?;
        Ok(())
    }
}

/// The commit of the working copy, marked if it has changes.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|line| line.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    format!("{cores} cores of {model}")
}
