//! The landing page.

/// The page at `/`: what this is and where its answers are. Self-contained, in the reader's light or dark.
pub fn page() -> String {
    PAGE.replace("{version}", env!("CARGO_PKG_VERSION"))
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ztmon</title>
<style>
:root { color-scheme: light dark; --text: #1c1c1c; --soft: #666; --back: #fff; --link: #0b57d0 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --soft: #999; --back: #161616; --link: #8ab4f8 } }
body { margin: 4rem auto; max-width: 36rem; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif;
  color: var(--text); background: var(--back) }
h1 { font-size: 1.5rem }
small, dd { color: var(--soft) }
a { color: var(--link) }
dd { margin: 0 0 .75rem }
</style>
</head>
<body>
<h1>ztmon <small>{version}</small></h1>
<p>ztmon counts how much traffic every client of a ZeroTier network moves: bytes and packets, sent and received, seen from
one node to which a flow rule sends the first bytes of every packet. It keeps who, when and how much, and no content.</p>
<dl>
<dt><a href="/metrics">/metrics</a></dt><dd>the counters, for Prometheus</dd>
<dt><a href="/-/healthy">/-/healthy</a></dt><dd>whether the process is alive</dd>
<dt><a href="/-/ready">/-/ready</a></dt><dd>whether totals can be committed</dd>
</dl>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn names_itself_and_links_to_its_answers() {
        let page = page();
        assert!(page.contains(concat!("<small>", env!("CARGO_PKG_VERSION"), "</small>")));
        for path in ["/metrics", "/-/healthy", "/-/ready"] {
            assert!(page.contains(&format!("href=\"{path}\"")), "{path}");
        }
        assert!(!page.contains("http:") && !page.contains("https:"), "needs nothing from elsewhere");
    }
}
