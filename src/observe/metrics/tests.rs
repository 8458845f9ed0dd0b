//! Names, documentation and dashboards of the metrics agree.

use super::{Metrics, status_label};
use std::collections::BTreeSet;

#[test]
fn every_family_is_named_by_the_conventions() {
    for family in Metrics::new().families() {
        assert!(family.name.starts_with("reelgate_"), "{}", family.name);
        assert_eq!(family.name.ends_with("_total"), family.kind == "counter", "{}", family.name);
        assert!(family.kind != "histogram" || family.name.ends_with("_seconds"), "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
    }
}

#[test]
fn an_origin_cannot_mint_status_labels() {
    let labels: BTreeSet<_> = (0..=u16::MAX).map(status_label).collect();
    assert!(labels.len() < 90, "{}", labels.len());
    assert_eq!(
        (status_label(206), status_label(299), status_label(999)),
        ("206".into(), "other".into(), "other".into())
    );
}

/// The names that the text mentions.
fn mentioned(text: &str) -> BTreeSet<String> {
    let ours = regex::Regex::new("reelgate_[a-z0-9_]+").expect("constant");
    ours.find_iter(text).map(|name| name.as_str().to_owned()).collect()
}

/// As written in a query: histograms by their series.
fn series(name: &str) -> String {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
}

#[test]
fn every_metric_is_documented_with_its_labels_and_nothing_else_is() {
    let page = include_str!("../../../deploy/metrics.md");
    for family in Metrics::new().families() {
        let labels = match family.labels.as_slice() {
            [] => "–".to_owned(),
            labels => labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", "),
        };
        let row = format!("| `{}` | {} | {labels} |", family.name, family.kind);
        assert!(page.contains(&row), "deploy/metrics.md lacks the row\n{row} {} |", family.help);
    }
    let registered: BTreeSet<_> = Metrics::new().families().into_iter().map(|family| family.name).collect();
    let unknown: Vec<_> = mentioned(page).into_iter().filter(|name| !registered.contains(&series(name))).collect();
    assert!(unknown.is_empty(), "deploy/metrics.md names what is not registered: {unknown:?}");
}

#[test]
fn dashboards_and_alerts_use_registered_metrics_and_the_dashboard_uses_all() {
    let registered: BTreeSet<_> = Metrics::new().families().into_iter().map(|family| family.name).collect();
    let names = |text: &str| mentioned(text).iter().map(|name| series(name)).collect::<BTreeSet<_>>();
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../deploy/grafana/reelgate.json")).expect("the dashboard is JSON");
    assert_eq!(names(&dashboard["panels"].to_string()), registered);
    let alerts = include_str!("../../../deploy/prometheus/alerts.yaml");
    serde_yaml::from_str::<serde_yaml::Value>(alerts).expect("the alerts are YAML");
    assert!(names(alerts).is_subset(&registered), "{:?}", names(alerts).difference(&registered));
}
