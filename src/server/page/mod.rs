//! The page at `/`: what an operator wants to see first, as plain HTML that needs no script.
//!
//! Everything that comes from outside is escaped, and every table ends after [`ROWS_MAX`] rows: the page is for people.

mod format;
mod listeners;
mod shards;

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

pub(super) use self::format::Escaped;
use self::format::{Age, Bytes, Grouped, Rate};
pub use self::listeners::ListenerStatus;
pub use self::shards::ShardStatus;
use crate::unrecognised::Folded;

/// What the page shows; plain data, made by the application.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The exporter's version.
    pub version: String,
    /// Since the start.
    pub uptime: Duration,
    /// The backlog found at start has been applied.
    pub ready: bool,
    /// Every file that is followed, is to be, or could be if it were readable.
    pub files: Vec<FileStatus>,
    /// Every source that listens for syslog.
    pub listeners: Vec<ListenerStatus>,
    /// Files that are followed now.
    pub followed_files: u64,
    /// Files that cannot be read now.
    pub unreadable_files: u64,
    /// Every rule in force.
    pub rules: Vec<RuleStatus>,
    /// Every partition that is read.
    pub shards: Vec<ShardStatus>,
    /// What no rule knows, most frequent first.
    pub unrecognised: Vec<Folded>,
    /// Every metric that has series.
    pub series: Vec<SeriesStatus>,
    /// Every appliance seen.
    pub appliances: Vec<ApplianceStatus>,
    /// Appliances that get labels of their own.
    pub appliances_max: usize,
    /// How the last reload went; the start counts as one.
    pub reload: Reload,
    /// Where positions are kept; nothing without a state directory.
    pub checkpoint: Option<Checkpoint>,
}

/// A file that is followed.
#[derive(Clone, Debug, Default)]
pub struct FileStatus {
    /// Its path.
    pub path: String,
    /// The source that it belongs to.
    pub source: String,
    /// The appliances that its lines are about, as far as seen.
    pub appliances: Vec<String>,
    /// Bytes that wait to be read.
    pub lag_bytes: u64,
    /// Lines a second, over the last while.
    pub lines_per_second: f64,
    /// Lines read since the start.
    pub lines: u64,
    /// Successors taken up.
    pub rotations: u64,
    /// Bytes known to be lost.
    pub lost_bytes: u64,
    /// Why it cannot be read at the moment.
    pub error: Option<String>,
}

/// An appliance.
#[derive(Clone, Debug, Default)]
pub struct ApplianceStatus {
    /// Its name.
    pub name: String,
    /// Since its last message was read; nothing before the first.
    pub last_message: Option<Duration>,
    /// Messages read.
    pub messages: u64,
    /// Messages of known programs that no rule recognised.
    pub unmatched: u64,
    /// What kind of appliance it is, if what it has logged says so.
    pub profile: Option<String>,
    /// The notable event that it logged last, `program/event`, and how long ago.
    pub last_event: Option<(String, Duration)>,
}

/// A rule in force.
#[derive(Clone, Debug, Default)]
pub struct RuleStatus {
    /// `pack/event`.
    pub name: String,
    /// Lines that it matched since the start.
    pub hits: u64,
}

/// The series of a metric.
#[derive(Clone, Debug, Default)]
pub struct SeriesStatus {
    /// The metric's name.
    pub metric: String,
    /// Series held.
    pub series: usize,
    /// Series that it may have.
    pub series_max: usize,
    /// Updates that went to the overflow series.
    pub dropped: u64,
}

/// How the last reload went.
#[derive(Clone, Debug, Default)]
pub struct Reload {
    /// Since settings and rules last took effect.
    pub age: Duration,
    /// Why the last attempt did not.
    pub error: Option<String>,
}

/// Where positions are kept.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The state directory.
    pub directory: String,
    /// Since it was last written; nothing if it has not been yet.
    pub age: Option<Duration>,
}

/// Rows of a table that are shown.
const ROWS_MAX: usize = 500;

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1f2328;--soft:#59636e;--bg:#f6f7f8;--card:#fff;--line:#d8dee4;--accent:#e6522c;\
--link:#b93d1c;--bad:#b42318;--bad-bg:#fde8e6;--good:#1a7f37}\
@media(prefers-color-scheme:dark){:root{--fg:#e6e8eb;--soft:#9aa4af;--bg:#14171a;--card:#1c2024;--line:#30363d;\
--link:#ff8a66;--bad:#ff8d84;--bad-bg:#3b1d1b;--good:#5fd07c}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
header{background:var(--accent);color:#fff}\
header div,main,footer{max-width:1160px;margin:0 auto;padding:0 24px}\
header div{padding-top:18px;padding-bottom:18px;display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 20px}\
h1{font-size:1.35rem;margin:0;font-weight:650}\
header nav{margin-left:auto;display:flex;flex-wrap:wrap;gap:4px 18px}\
header a{color:#fff;text-decoration-color:#fff9}\
h2{font-size:1.05rem;margin:34px 0 10px}h2 small{font-weight:400;color:var(--soft);margin-left:8px}\
a{color:var(--link)}\
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:12px;margin:24px 0 0}\
.figures div,.table{background:var(--card);border:1px solid var(--line);border-radius:8px}\
.figures div{padding:12px 16px}.figures dt{color:var(--soft);font-size:.82rem}\
.figures dd{margin:2px 0 0;font-size:1.2rem;font-weight:600}\
.figures small{display:block;font-size:.8rem;font-weight:400;color:var(--soft);overflow-wrap:anywhere}\
dl{margin:0}\
.table{overflow-x:auto}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:7px 14px;text-align:left;vertical-align:top;border-top:1px solid var(--line)}\
thead th{border-top:0;color:var(--soft);font-size:.8rem;font-weight:600;white-space:nowrap}\
td.n,th.n{text-align:right;white-space:nowrap}\
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}\
td code{overflow-wrap:break-word}td.m{min-width:20rem}td.m code{overflow-wrap:anywhere}\
.bad{color:var(--bad);font-weight:600}.good{color:var(--good)}.soft{color:var(--soft)}\
.notice{background:var(--bad-bg);color:var(--bad);border-radius:8px;padding:12px 16px;margin:20px 0 0}\
pre.text{white-space:pre-wrap;overflow-wrap:anywhere}\
.notice pre{margin:6px 0 0;white-space:pre-wrap;overflow-wrap:anywhere}\
details{margin-top:10px}summary{cursor:pointer;color:var(--soft)}\
details ul{columns:3 260px;margin:8px 0 0;padding-left:20px}\
details li{break-inside:avoid}\
footer{color:var(--soft);font-size:.85rem;padding-top:30px;padding-bottom:30px}";

/// The page, with the metrics' path for its links, which are relative: a proxy may serve them below a path of its own.
pub fn page(status: &Status, telemetry_path: &str) -> String {
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a String does not fail.
    let _ = write_page(&mut out, status, telemetry_path);
    out
}

/// The page for a path that is not there.
pub(super) fn not_found(external_path: &str) -> String {
    let mut out = String::new();
    let _ = write_head(&mut out, "Not found").and_then(|()| {
        writeln!(
            out,
            "<header><div><h1>appliance_log_exporter</h1></div></header>\
             <main><h2>Not found</h2><p>There is nothing at this path. The <a href=\"{}/\">status page</a> \
             links to what there is.</p></main></body></html>",
            Escaped(external_path)
        )
    });
    out
}

pub(super) fn write_head(out: &mut String, title: &str) -> fmt::Result {
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n"
    )
}

fn write_page(out: &mut String, status: &Status, telemetry_path: &str) -> fmt::Result {
    write_head(out, "appliance_log_exporter")?;
    write!(
        out,
        "<header><div><h1>appliance_log_exporter</h1><span>{}</span><nav><a href=\"{}\">Metrics</a>\
         <a href=\"runbooks/\">Runbooks</a>\
         <a href=\"sd\">Service discovery</a><a href=\"-/config\">Configuration</a>\
         <a href=\"-/ready\">Ready</a><a href=\"-/healthy\">Healthy</a></nav></div></header>\n<main>\n",
        Escaped(&status.version),
        Escaped(telemetry_path.trim_start_matches('/'))
    )?;
    write_notices(out, status)?;
    write_figures(out, status)?;
    write_appliances(out, status)?;
    if !status.shards.is_empty() {
        shards::write(out, &status.shards)?;
    }
    if !status.listeners.is_empty() {
        listeners::write(out, &status.listeners)?;
    }
    let has_others = !status.shards.is_empty() || !status.listeners.is_empty();
    if !status.files.is_empty() || !has_others {
        write_files(out, status)?;
    }
    write_unrecognised(out, status)?;
    write_rules(out, status)?;
    write_series(out, status)?;
    writeln!(
        out,
        "</main>\n<footer>Up for {}. Settings and rules are read anew on <code>POST /-/reload</code> or SIGHUP.\
         </footer></body></html>",
        Age(status.uptime)
    )
}

fn write_notices(out: &mut String, status: &Status) -> fmt::Result {
    if !status.ready {
        out.write_str(
            "<p class=\"notice\">Not ready: the backlog is being read. Until it is, scrapes show the exporter's own metrics \
             only.</p>\n",
        )?;
    }
    if let Some(error) = &status.reload.error {
        writeln!(
            out,
            "<div class=\"notice\">The last reload failed; the former settings and rules stay in force.\
             <pre>{}</pre></div>",
            Escaped(error)
        )?;
    }
    Ok(())
}

fn write_figures(out: &mut String, status: &Status) -> fmt::Result {
    let files = (status.files.iter()).map(|file| (file.lag_bytes, file.lines_per_second));
    let listeners = status.listeners.iter();
    let listeners = listeners.map(|listener| (listener.lag_bytes, listener.lines_per_second));
    let sum = |(lag, rate), (more, rate_more)| (lag + more, rate + rate_more);
    let (lag, rate) = files.chain(listeners).fold((0, 0.0), sum);
    let series: usize = status.series.iter().map(|metric| metric.series).sum();
    let hit = status.rules.iter().filter(|rule| rule.hits > 0).count();
    out.write_str("<dl class=\"figures\">\n")?;
    let files_note = match status.unreadable_files {
        0 => "all readable".to_owned(),
        n => format!("{} not readable", Grouped(n)),
    };
    let followed = Grouped(status.followed_files);
    figure(out, "Files followed", followed, &files_note)?;
    figure(
        out,
        "Waiting",
        Bytes(lag),
        &format!("{} lines/s", Rate(rate)),
    )?;
    figure(
        out,
        "Appliances",
        Grouped(status.appliances.len() as u64),
        &format!("of at most {}", Grouped(status.appliances_max as u64)),
    )?;
    figure(
        out,
        "Rules that hit",
        Grouped(hit as u64),
        &format!("of {}", Grouped(status.rules.len() as u64)),
    )?;
    figure(
        out,
        "Series",
        Grouped(series as u64),
        &format!("in {} metrics", Grouped(status.series.len() as u64)),
    )?;
    figure(
        out,
        "Configuration loaded",
        Age(status.reload.age),
        match status.reload.error {
            Some(_) => "ago; the last reload failed",
            None => "ago",
        },
    )?;
    let (age, place) = match &status.checkpoint {
        Some(Checkpoint { directory, age }) => (
            age.map_or("not yet".to_owned(), |age| Age(age).to_string()),
            if age.is_some() {
                format!("ago in {directory}")
            } else {
                format!("in {directory}")
            },
        ),
        None => ("none".to_owned(), "no state directory".to_owned()),
    };
    figure(out, "Checkpoint", age, &place)?;
    out.write_str("</dl>\n")
}

fn figure(out: &mut String, name: &str, value: impl Display, note: &str) -> fmt::Result {
    writeln!(
        out,
        "<div><dt>{name}</dt><dd>{value}<small>{}</small></dd></div>",
        Escaped(note)
    )
}

fn write_appliances(out: &mut String, status: &Status) -> fmt::Result {
    out.write_str("<h2>Appliances<small>who was silent for longest first</small></h2>\n")?;
    if status.appliances.is_empty() {
        return out.write_str("<p class=\"soft\">No line has named an appliance yet.</p>\n");
    }
    table(
        out,
        &[
            ("Appliance", ""),
            ("Profile", ""),
            ("Last notable event", ""),
            ("Last message", "n"),
            ("Messages", "n"),
            ("Not recognised", "n"),
        ],
        &status.appliances,
        |out, appliance| {
            write!(
                out,
                "<td>{}</td><td>{}</td><td>",
                Escaped(&appliance.name),
                Escaped(appliance.profile.as_deref().unwrap_or_default())
            )?;
            if let Some((event, age)) = &appliance.last_event {
                write!(out, "{}, {} ago", Escaped(event), Age(*age))?;
            }
            out.write_str("</td><td class=\"n\">")?;
            match appliance.last_message {
                Some(age) => write!(out, "{} ago", Age(age))?,
                None => out.write_str("never")?,
            }
            write!(
                out,
                "</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
                Grouped(appliance.messages),
                Grouped(appliance.unmatched)
            )
        },
    )
}

fn write_files(out: &mut String, status: &Status) -> fmt::Result {
    out.write_str("<h2>Files</h2>\n")?;
    if status.files.is_empty() {
        return out.write_str(
            "<p class=\"soft\">No file matches yet. They are looked for again and again; see <code>sources</code> in \
             the configuration, or <code>--log.file</code>.</p>\n",
        );
    }
    table(
        out,
        &[
            ("File", ""),
            ("Source", ""),
            ("Appliances", ""),
            ("Waiting", "n"),
            ("Lines/s", "n"),
            ("Lines", "n"),
            ("Rotations", "n"),
            ("Lost", "n"),
        ],
        &status.files,
        |out, file| {
            write!(out, "<td><code>{}</code>", Escaped(&file.path))?;
            if let Some(error) = &file.error {
                write!(out, "<br><span class=\"bad\">{}</span>", Escaped(error))?;
            }
            write!(out, "</td><td>{}</td><td>", Escaped(&file.source))?;
            write_some(out, &file.appliances)?;
            write!(
                out,
                "</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
                Bytes(file.lag_bytes),
                Rate(file.lines_per_second),
                Grouped(file.lines),
                Grouped(file.rotations)
            )?;
            let class = if file.lost_bytes > 0 { "n bad" } else { "n" };
            write!(out, "<td class=\"{class}\">{}</td>", Bytes(file.lost_bytes))
        },
    )
}

/// The first few of these names.
fn write_some(out: &mut String, names: &[String]) -> fmt::Result {
    const SHOWN: usize = 3;
    for (index, name) in names.iter().take(SHOWN).enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        write!(out, "{comma}{}", Escaped(name))?;
    }
    if names.len() > SHOWN {
        let more = Grouped((names.len() - SHOWN) as u64);
        write!(out, " <span class=\"soft\">and {more} more</span>")?;
    }
    Ok(())
}

fn write_unrecognised(out: &mut String, status: &Status) -> fmt::Result {
    out.write_str(
        "<h2>Not recognised<small>no rule, or no pack reads the program; digits and addresses are masked</small></h2>\n",
    )?;
    if status.unrecognised.is_empty() {
        return out.write_str("<p class=\"soft\">Every message was recognised.</p>\n");
    }
    out.write_str(
        "<p class=\"soft\"><code>appliance_log_exporter suggest FILE</code> drafts rules for them.</p>\n",
    )?;
    table(
        out,
        &[
            ("Lines", "n"),
            ("Program", ""),
            ("Appliance", ""),
            ("Message", ""),
        ],
        &status.unrecognised,
        |out, kind| {
            write!(
                out,
                "<td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"m\"><code>{}</code></td>",
                Grouped(kind.count),
                Escaped(&kind.program),
                Escaped(&kind.appliance),
                Escaped(&kind.message)
            )
        },
    )
}

fn write_rules(out: &mut String, status: &Status) -> fmt::Result {
    let mut hit: Vec<_> = status.rules.iter().filter(|rule| rule.hits > 0).collect();
    hit.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.name.cmp(&b.name)));
    let never: Vec<_> = status.rules.iter().filter(|rule| rule.hits == 0).collect();

    out.write_str("<h2>Rules</h2>\n")?;
    if hit.is_empty() {
        out.write_str("<p class=\"soft\">No rule has matched a line yet.</p>\n")?;
    } else {
        table(out, &[("Rule", ""), ("Lines", "n")], &hit, |out, rule| {
            write!(
                out,
                "<td><code>{}</code></td><td class=\"n\">{}</td>",
                Escaped(&rule.name),
                Grouped(rule.hits)
            )
        })?;
    }
    if !never.is_empty() {
        write!(
            out,
            "<details><summary>{} rules have not matched a line yet</summary><ul>",
            Grouped(never.len() as u64)
        )?;
        for rule in never.iter().take(ROWS_MAX) {
            write!(out, "<li><code>{}</code></li>", Escaped(&rule.name))?;
        }
        out.write_str("</ul>")?;
        write_more(out, never.len())?;
        out.write_str("</details>\n")?;
    }
    Ok(())
}

fn write_series(out: &mut String, status: &Status) -> fmt::Result {
    out.write_str("<h2>Series</h2>\n")?;
    if status.series.is_empty() {
        return out.write_str("<p class=\"soft\">No line has made a series yet.</p>\n");
    }
    table(
        out,
        &[
            ("Metric", ""),
            ("Series", "n"),
            ("At most", "n"),
            ("Updates without a series", "n"),
        ],
        &status.series,
        |out, metric| {
            let class = if metric.dropped > 0 { "n bad" } else { "n" };
            write!(
                out,
                "<td><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"{class}\">{}</td>",
                Escaped(&metric.metric),
                Grouped(metric.series as u64),
                Grouped(metric.series_max as u64),
                Grouped(metric.dropped)
            )
        },
    )
}

/// A table of at most [`ROWS_MAX`] rows; `row` writes one row's cells. A column is a heading and its class.
fn table<T>(
    out: &mut String,
    columns: &[(&str, &str)],
    rows: &[T],
    row: impl Fn(&mut String, &T) -> fmt::Result,
) -> fmt::Result {
    out.write_str("<div class=\"table\"><table><thead><tr>")?;
    for (name, class) in columns {
        write!(out, "<th class=\"{class}\">{name}</th>")?;
    }
    out.write_str("</tr></thead><tbody>\n")?;
    for one in rows.iter().take(ROWS_MAX) {
        out.write_str("<tr>")?;
        row(out, one)?;
        out.write_str("</tr>\n")?;
    }
    out.write_str("</tbody></table></div>\n")?;
    write_more(out, rows.len())
}

fn write_more(out: &mut String, rows: usize) -> fmt::Result {
    if rows > ROWS_MAX {
        writeln!(
            out,
            "<p class=\"soft\">and {} more</p>",
            Grouped((rows - ROWS_MAX) as u64)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_says_is_shown_and_not_run() {
        let nasty = "<script>alert('x')</script>\"&\0";
        let status = Status {
            files: vec![FileStatus {
                path: nasty.into(),
                source: nasty.into(),
                appliances: vec![nasty.into()],
                error: Some(nasty.into()),
                ..FileStatus::default()
            }],
            listeners: vec![ListenerStatus {
                source: nasty.into(),
                addresses: nasty.into(),
                appliances: vec![nasty.into()],
                ..ListenerStatus::default()
            }],
            rules: vec![
                RuleStatus {
                    name: nasty.into(),
                    hits: 1,
                },
                RuleStatus {
                    name: nasty.into(),
                    hits: 0,
                },
            ],
            appliances: vec![ApplianceStatus {
                name: nasty.into(),
                profile: Some(nasty.into()),
                last_event: Some((nasty.into(), Duration::ZERO)),
                ..ApplianceStatus::default()
            }],
            unrecognised: vec![Folded {
                appliance: nasty.into(),
                program: nasty.into(),
                message: nasty.into(),
                count: 1,
            }],
            series: vec![SeriesStatus {
                metric: nasty.into(),
                ..SeriesStatus::default()
            }],
            reload: Reload {
                error: Some(nasty.into()),
                ..Reload::default()
            },
            checkpoint: Some(Checkpoint {
                directory: nasty.into(),
                age: None,
            }),
            version: nasty.into(),
            ..Status::default()
        };
        let page = page(&status, nasty);
        assert!(!page.contains("<script"));
        assert!(!page.contains('\0'));
        let shown = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}";
        assert_eq!(page.matches(shown).count(), 20);
    }

    #[test]
    fn a_page_ends_however_much_there_is() {
        let status = Status {
            files: vec![
                FileStatus {
                    path: "/var/log/x".into(),
                    ..FileStatus::default()
                };
                ROWS_MAX + 1234
            ],
            ..Status::default()
        };
        let page = page(&status, "/metrics");
        assert_eq!(page.matches("/var/log/x").count(), ROWS_MAX);
        assert!(page.contains("and 1\u{202f}234 more"));
    }
}
