//! Failover, ejection, the breaker, retries, active checks.

use super::*;

#[tokio::test]
async fn a_refused_connection_moves_on_to_the_next_server() {
    let live = TestServer::start(200).await;
    let mut settings = settings(vec![server(refusing().await), server(live.address)]);
    settings.health.passive_ejection = Duration::from_secs(30);
    let pool = pool(settings);
    let connector = Connector::new(None);
    for _ in 0..6 {
        assert_eq!(request(&pool, &connector, 0).await.unwrap(), (200, live.address.to_string()));
    }
    let text = pool.metrics().render();
    assert!(
        text.contains(r#"reelgate_origin_errors_total{origin="media",reason="connect"} 2"#),
        "then ejected: {text}"
    );
    assert!(text.contains(r#"reelgate_origin_retries_total{origin="media",outcome="sent"} 2"#), "{text}");
}

#[tokio::test]
async fn an_ejected_server_returns() {
    let flaky = TestServer::start(0).await;
    let steady = TestServer::start(200).await;
    let pool = pool(settings(vec![server(flaky.address), server(steady.address)]));
    let connector = Connector::new(None);
    eventually("ejection", async || {
        request(&pool, &connector, 0).await.unwrap();
        !pool.status().servers[0].up
    })
    .await;
    assert_eq!(pool.status().servers[0].addresses[0].reason, Some("ejected"));
    flaky.status.store(200, Ordering::Relaxed);
    eventually("return", async || request(&pool, &connector, 0).await.unwrap().1 == flaky.address.to_string()).await;
    assert!(pool.status().servers[0].up);
}

#[tokio::test]
async fn all_servers_ejected_is_no_healthy_server_but_a_single_one_stays_in() {
    let mut settings_of_two = settings(vec![server(refusing().await), server(refusing().await)]);
    settings_of_two.health.passive_ejection = Duration::from_secs(30);
    let two = pool(settings_of_two);
    let connector = Connector::new(None);
    let mut last = Ok((0, String::new()));
    for _ in 0..4 {
        last = request(&two, &connector, 0).await;
    }
    assert_eq!(last, Err(Outcome::Unavailable(Unavailable::NoHealthyServer)));
    let one = pool(settings(vec![server(refusing().await)]));
    for _ in 0..6 {
        assert_eq!(request(&one, &connector, 0).await, Err(Outcome::Failed(Failure::Connect)));
    }
}

#[tokio::test]
async fn a_server_that_hangs_times_out_and_is_not_asked_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(vec![server(listener.local_addr().unwrap())]);
    (settings.timeouts.first_byte, settings.timeouts.read) = (Duration::from_millis(200), Duration::from_millis(100));
    let pool = pool(settings);
    let outcome = request(&pool, &Connector::new(None), 0).await;
    assert_eq!(outcome, Err(Outcome::Failed(Failure::Timeout)));
    assert_eq!(Failure::Timeout.status(), 504);
    assert!(pool.metrics().render().contains(r#"reelgate_origin_requests_total{origin="media",status="0"} 1"#));
}

#[tokio::test]
async fn garbage_is_a_protocol_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = pool(settings(vec![server(listener.local_addr().unwrap())]));
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"\x00\x01 this is not HTTP\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let outcome = request(&pool, &Connector::new(None), 0).await;
    assert_eq!(outcome, Err(Outcome::Failed(Failure::Protocol)));
    task.abort();
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_without_blame() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = pool(settings(vec![server(listener.local_addr().unwrap())]));
    // Each connection serves one request and closes when the second arrives.
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                let _ = stream.read(&mut [0; 1024]).await;
            });
        }
    });
    let connector = Connector::new(None);
    for _ in 0..5 {
        assert_eq!(request(&pool, &connector, 0).await.unwrap().0, 200);
    }
    let text = pool.metrics().render();
    assert!(text.contains(r#"reason="stale"} 4"#), "{text}");
    assert!(!text.contains("reelgate_origin_retries_total{"), "free of the budget: {text}");
    task.abort();
}

#[tokio::test]
async fn the_breaker_opens_and_one_trial_closes_it() {
    let server = TestServer::start(502).await;
    let mut settings = settings(vec![self::server(server.address)]);
    settings.breaker = config::Breaker { requests_min: 5, open: Duration::from_millis(1500), ..settings.breaker };
    let pool = pool(settings);
    let connector = Connector::new(None);
    for _ in 0..5 {
        assert_eq!(request(&pool, &connector, 0).await.unwrap().0, 502);
    }
    let open = request(&pool, &connector, 0).await;
    let Err(Outcome::Unavailable(Unavailable::BreakerOpen { retry_after })) = open else { panic!("{open:?}") };
    assert!(retry_after >= Duration::from_secs(1), "it becomes a Retry-After in whole seconds");
    assert!(matches!(pool.status().breaker, BreakerStatus::Open { .. }));
    assert!(pool.metrics().render().contains(r#"reelgate_origin_breaker_open{origin="media"} 1"#));

    server.status.store(503, Ordering::Relaxed);
    eventually("half-open", async || pool.status().breaker == BreakerStatus::HalfOpen).await;
    let mut trial = pool.pick(0, &mut Tried::default()).await.unwrap();
    assert!(pool.pick(0, &mut Tried::default()).await.is_err(), "one trial only");
    assert_eq!(exchange(&connector, &mut trial).await, Ok(503), "it answers again");
    assert_eq!(pool.status().breaker, BreakerStatus::Closed);
    assert!(pool.metrics().render().contains(r#"reelgate_origin_breaker_open{origin="media"} 0"#));
}

#[tokio::test]
async fn a_trial_whose_client_leaves_is_given_to_the_next() {
    let server = TestServer::start(504).await;
    let mut settings = settings(vec![self::server(server.address)]);
    settings.breaker = config::Breaker { requests_min: 1, open: Duration::ZERO, ..settings.breaker };
    let pool = pool(settings);
    request(&pool, &Connector::new(None), 0).await.unwrap();
    let trial = pool.pick(0, &mut Tried::default()).await.unwrap();
    assert!(pool.pick(0, &mut Tried::default()).await.is_err());
    drop(trial);
    assert!(pool.pick(0, &mut Tried::default()).await.is_ok());
}

#[tokio::test]
async fn retries_stop_at_the_budget_and_at_what_cannot_be_replayed() {
    let mut settings = settings(vec![server(refusing().await), server(refusing().await), server(refusing().await)]);
    settings.retry.budget_per_second_min = 0;
    settings.retry.budget_ratio = 0.0;
    let pool = pool(settings);
    let mut tried = Tried::default();
    drop(pool.pick(0, &mut tried).await.unwrap());
    assert!(!pool.may_retry(&mut tried, Failure::Connect, true));
    assert!(pool.metrics().render().contains(r#"reelgate_origin_retries_total{origin="media",outcome="refused"} 1"#));
    assert!(!pool.may_retry(&mut tried, Failure::Reset, false), "a POST may have been taken");
    assert!(!pool.may_retry(&mut tried, Failure::Local, true));
}

#[tokio::test]
async fn active_checks_take_out_and_bring_back() {
    let server = TestServer::start(200).await;
    let mut settings = settings(vec![self::server(server.address)]);
    settings.health.active = Some(ActiveHealth {
        path: "/health".to_owned(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        status: 200..=299,
    });
    let pool = pool(settings);
    let (stop, shutdown) = watch::channel(false);
    let work = tokio::spawn(pool.run(shutdown));
    server.status.store(500, Ordering::Relaxed);
    eventually("down", async || !pool.status().servers[0].up).await;
    assert_eq!(pool.status().servers[0].addresses[0].reason, Some("checks"));
    let picked = pool.pick(0, &mut Tried::default()).await;
    assert_eq!(picked.unwrap_err(), Unavailable::NoHealthyServer);
    let down = r#"reelgate_origin_server_up{origin="media",server="#;
    assert!(pool.metrics().render().lines().any(|line| line.starts_with(down) && line.ends_with(" 0")));
    server.status.store(204, Ordering::Relaxed);
    eventually("up", async || pool.status().servers[0].up).await;
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), work).await.expect("ends on shutdown").unwrap();
}

#[tokio::test]
async fn background_work_ends_with_its_pool() {
    let pool = pool(settings(vec![server(refusing().await)]));
    let (_stop, shutdown) = watch::channel(false);
    let work = tokio::spawn(pool.run(shutdown));
    drop(pool);
    tokio::time::timeout(Duration::from_secs(5), work).await.expect("nobody is left").unwrap();
}
