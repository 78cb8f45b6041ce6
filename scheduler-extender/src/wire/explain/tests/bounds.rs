//! What a question may take: the body, its parts, the time, and nothing from the scheduler's requests.

use super::*;

#[tokio::test]
async fn a_body_too_large_or_that_grows_by_itself_is_refused() {
    let bakery = bakery();
    let large = format!("{}\n# {}", ovens(), "x".repeat(MANIFEST_LIMIT));
    let (status, answer) = post(&bakery, "/simulate", large).await;
    assert!(
        status == StatusCode::PAYLOAD_TOO_LARGE && answer.contains("larger than 1048576 bytes"),
        "{answer}"
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let before = format!("*a{}", i - 1);
        let line = format!("a{i}: &a{i} [{}]\n", [before.as_str(); 10].join(", "));
        bomb.push_str(&line);
    }
    let (status, answer) = post(&bakery, "/simulate", bomb).await;
    assert!(
        status == StatusCode::BAD_REQUEST && answer.contains("it is not YAML"),
        "{answer}"
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        post(&bakery, "/simulate", deep.clone()).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        post(&bakery, "/simulate", format!("{{\"a\": {deep}}}"))
            .await
            .0,
        StatusCode::BAD_REQUEST
    );
    let json_not_utf8 = b"{\"apiVersion\": \"\xff\"}".to_vec();
    let (status, answer) = post(&bakery, "/simulate", json_not_utf8).await;
    assert!(
        status == StatusCode::BAD_REQUEST && answer.contains("it is not UTF-8 text"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_largest_simulation_ends_in_time() {
    let bakery = bakery();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" },
        "spec": {
            "replicas": 1000, "podManagementPolicy": "Parallel", "template": { "spec": { "containers": [] } },
            "volumeClaimTemplates": [
                { "metadata": { "name": "a" }, "spec": { "resources": { "requests": { "storage": "1Mi" } } } },
                { "metadata": { "name": "b" }, "spec": { "resources": { "requests": { "storage": "1Mi" } } } }
            ]
        }
    });
    let answer = parsed(post(&bakery, "/simulate", set.to_string()).await);
    assert_eq!(answer["pods"].as_array().unwrap().len(), 1000);
    // oven-1 has room for 768 extents and oven-2 for 512; two for each pod.
    assert_eq!(answer["placed"], 640, "{}", answer["pods"][999]);
}

#[tokio::test]
async fn manifests_count_among_the_bodies_that_are_on_their_way() {
    let app = app(&health());
    let budget = app.bodies.clone();
    let bakery = patient(app);
    let mut kept = Vec::new();
    for _ in 0..body::LIMIT_OF_ALL / body::LIMIT {
        let full = Body::from(vec![b' '; body::LIMIT]);
        let full = body::collect(full, body::LIMIT, &budget).await;
        kept.push(full.ok().unwrap());
    }
    let (status, answer) = post(&bakery, "/simulate", ovens()).await;
    assert!(
        status == StatusCode::SERVICE_UNAVAILABLE
            && answer.contains("requests are on their way already; try again"),
        "{status} {answer}"
    );
    drop(kept);
    parsed(post(&bakery, "/simulate", ovens()).await);
    assert_eq!(budget.taken(), 0, "nothing is kept");
}

#[tokio::test]
async fn one_at_a_time_and_the_scheduler_does_not_wait_for_them() {
    let app = app(&health());
    let turn = app.explaining.turn.clone().acquire_owned().await.unwrap();
    let bakery = patient(app);
    let asks = tokio::spawn({
        let bakery = bakery.clone();
        async move { get(&bakery, "/why?pod=default/db-2").await }
    });
    // Whoever is told why holds the turn; meanwhile the scheduler is served, and who asks waits.
    for _ in 0..10 {
        parsed(post(&bakery, "/filter", args("db-2").to_string()).await);
        tokio::task::yield_now().await;
    }
    assert!(!asks.is_finished());
    drop(turn);
    parsed(asks.await.unwrap());
}
