//! The runbooks of the shipped alerts at `/runbooks/`, for networks that reach nothing else. They are in the program. Links
//! are relative, as on the status page.

use std::fmt::Write as _;

use super::page::{Escaped, write_head};

include!(concat!(env!("OUT_DIR"), "/runbooks.rs"));

/// The page at a path below `/runbooks/`: the list at the path itself, else the runbook of an alert, whose name may end in
/// `.md` as in the repository.
pub(super) fn runbook(path: &str) -> Option<String> {
    let name = path.strip_prefix("/runbooks/")?;
    let name = name.strip_suffix(".md").unwrap_or(name);
    let mut out = String::with_capacity(16 * 1024);
    let title = if name.is_empty() { "Runbooks" } else { name };
    // Writing to a String does not fail.
    let _ = write_head(&mut out, title);
    let _ = write!(
        out,
        "<header><div><h1>{title}</h1><nav><a href=\"../\">Status</a><a href=\"./\">Runbooks</a></nav></div></header>\n<main>",
        title = Escaped(title)
    );
    if name.is_empty() {
        out.push_str("<ul>\n");
        for (name, text) in RUNBOOKS {
            // The first paragraph: severity and what happened.
            let about = text.split("\n\n").nth(1).unwrap_or_default();
            let about = about.split(" Rule: ").next().unwrap_or_default();
            let _ = writeln!(
                out,
                "<li><a href=\"{name}\">{name}</a> {}</li>",
                Escaped(about)
            );
        }
        out.push_str("</ul>");
    } else {
        let found = RUNBOOKS
            .binary_search_by_key(&name, |(name, _)| name)
            .ok()?;
        let (_, text) = RUNBOOKS.get(found)?;
        let _ = write!(out, "<pre class=\"text\">{}</pre>", Escaped(text));
    }
    out.push_str("</main></body></html>\n");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_leads_to_each_runbook_and_nothing_else_is_found() {
        let list = runbook("/runbooks/").expect("the list");
        assert!(RUNBOOKS.len() > 100);
        for (name, text) in RUNBOOKS {
            assert!(list.contains(&format!("href=\"{name}\"")));
            for path in [format!("/runbooks/{name}"), format!("/runbooks/{name}.md")] {
                let page = runbook(&path).expect("a page");
                assert!(page.contains("<pre class=\"text\"># Appliance"), "{path}");
                assert!(!page.contains("<script"), "{path}");
            }
            assert!(text.contains("amtool silence add"), "{name}");
        }
        for path in [
            "/runbooks",
            "/runbooks/README",
            "/runbooks/../Cargo.toml",
            "/",
        ] {
            assert_eq!(runbook(path), None, "{path}");
        }
    }
}
