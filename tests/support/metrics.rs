//! The Prometheus text format, read back.

/// One scrape.
#[derive(Debug, Clone)]
pub struct Samples(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Samples {
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).filter_map(sample).collect())
    }

    /// The sum of the samples of `name` that carry all of `labels`; 0 where there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |s: &&Sample| labels.iter().all(|(n, v)| s.labels.iter().any(|(ln, lv)| ln == n && lv == v));
        self.0.iter().filter(|s| s.name == name).filter(carries).map(|s| s.value).sum()
    }

    /// Every sample of `name`: the value of its label `by`, and its own.
    pub fn by(&self, name: &str, by: &str) -> Vec<(String, f64)> {
        let label = |s: &Sample| s.labels.iter().find(|(name, _)| name == by).map(|(_, value)| value.clone());
        self.0.iter().filter(|s| s.name == name).filter_map(|s| Some((label(s)?, s.value))).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|s| s.name == name)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample { name: series.into(), labels: Vec::new(), value });
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => text.push(characters.next()?.1),
                (at, '"') => break at,
                (_, c) => text.push(c),
            }
        };
        labels.push((label.trim_start_matches(',').to_owned(), text));
        rest = &after[end + 1..];
    }
    Some(Sample { name: name.into(), labels, value })
}
