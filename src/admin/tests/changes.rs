//! Requests that change something, and what they answer where nothing is changed.

use super::*;

/// What the fake says to a wish to optimise a title.
pub fn begun(title: &str) -> Result<Optimisation, Refused> {
    if title != "film-1" {
        return Err(if title == "busy" { Refused::TooMany } else { Refused::NoSuchTitle });
    }
    Ok(Optimisation {
        origin: "films".into(),
        title: title.into(),
        name: "Film".into(),
        state: "running",
        done: 1,
        rungs: 3,
        saved_percent: None,
        saved_h264_percent: None,
        reason: None,
    })
}

#[tokio::test]
async fn a_title_is_optimised_by_its_name_and_no_other_websites_page_can_ask() {
    let admin = open().await;
    let asked = async |headers: &str, body: &str| {
        let length = body.len();
        let head = "POST /api/v1/optimise HTTP/1.1\r\nHost: localhost:9090\r\nConnection: close";
        admin.raw(&format!("{head}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")).await
    };
    let begun = asked(PURGE, r#"{"title": "film-1"}"#).await;
    assert_eq!((begun.status, begun.json()["done"].as_u64()), (200, Some(1)), "{}", begun.body);
    let listed = admin.get("/api/v1/optimise", "").await.json();
    assert_eq!(
        (&listed["titles"][0]["state"], &listed["titles"][0]["saved_percent"]),
        (&"running".into(), &Value::Null)
    );
    for (body, status) in [
        (r#"{"title": "none"}"#, 404),
        (r#"{"title": "busy"}"#, 503),
        (r#"{"title": 1}"#, 400),
        (r#"{"title": "film-1", "all": true}"#, 400),
        ("", 400),
    ] {
        let answer = asked(PURGE, body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.head.contains("problem+json"), "{}", answer.head);
    }
    assert_eq!(asked("", r#"{"title": "film-1"}"#).await.status, 415);
    let elsewhere = "Content-Type: application/json\r\nOrigin: https://evil.example\r\n";
    assert_eq!(asked(elsewhere, r#"{"title": "film-1"}"#).await.status, 403);
}

#[tokio::test]
async fn a_purge_that_a_restart_would_forget_is_not_acknowledged() {
    let admin = open().await;
    for (tag, status, detail) in [("busy", 503, "try again"), ("full", 500, "it is in force")] {
        let answer = admin.purge(PURGE, &serde_json::json!({ "tag": tag }).to_string()).await;
        assert_eq!((answer.status, answer.json()["detail"].as_str()), (status, Some(detail)));
        assert!(answer.head.contains("problem+json"), "{}", answer.head);
    }
}
