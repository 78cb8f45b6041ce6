//! `GET /why`.

use super::*;

fn no_storage() -> Value {
    json!({
        "node": "counter", "fits": false, "curableByPreemption": false,
        "reasons": [{ "reason": "StorageNotServing", "state": "Absent" }],
        "sentence": "node has no storage (no LocalStorageNode)"
    })
}

fn too_full(node: &str) -> Value {
    const GIB: u64 = 1 << 30;
    let (used, total, reserved) = if node == "oven-1" {
        (0, 5, 2)
    } else {
        (8, 10, 0)
    };
    let owners = if reserved > 0 {
        json!([{ "pod": "default/db-1", "bytes": reserved * GIB, "volumes": 1 }])
    } else {
        json!([])
    };
    let free = total - used - reserved;
    let held = if reserved > 0 {
        ", 2 reserved for default/db-1"
    } else {
        ""
    };
    json!({
        "node": node, "fits": false, "curableByPreemption": true,
        "sentence": format!("hdd pool: {free} of {total} GiB free{held}, needs 4"),
        "reasons": [{
            "reason": "PoolRoom", "pool": "LocalStorage_PoolHDD", "class": "HDD", "volumes": 1,
            "neededBytes": 4 * GIB, "freeBytes": free * GIB, "totalBytes": total * GIB, "usedBytes": used * GIB,
            "extentBytes": 4 << 20,
            "reserved": { "bytes": reserved * GIB, "volumes": u64::from(reserved > 0), "for": owners, "others": 0 }
        }]
    })
}

#[tokio::test]
async fn a_pod_of_the_dump_is_decided_about_now() {
    let answer = parsed(get(&bakery(), "/why?pod=default/db-2").await);
    let golden = json!({
        "pod": "default/db-2", "uid": "pod-2", "last": null,
        "now": {
            "outcome": "Judged", "fit": 0, "refused": 3,
            "asks": [{ "claim": "default/data-db-2", "volume": "pvc-2", "kind": "New", "class": "HDD", "bytes": 4_u64 << 30, "thin": false, "copies": 1 }],
            "nodes": [no_storage(), too_full("oven-1"), too_full("oven-2")]
        },
        "notes": ["no decision about this pod is remembered: it is known from the dump only"]
    });
    assert_eq!(answer, golden);
}

#[tokio::test]
async fn what_the_scheduler_was_told_is_remembered() {
    let bakery = bakery();
    let told = parsed(post(&bakery, "/filter", args("db-7").to_string()).await);
    let said = "hdd pool: 3 of 5 GiB free, 2 reserved for default/db-1, needs 4";
    assert_eq!(told["FailedNodes"]["oven-1"], said);
    parsed_list(post(&bakery, "/prioritize", args("db-7").to_string()).await);
    let answer = parsed(get(&bakery, "/why?pod=default/db-7").await);
    let golden = json!({
        "filter": { "outcome": "Judged", "fit": 0, "refused": 3, "nodes": [too_full("oven-1"), too_full("oven-2"), no_storage()] },
        "prioritize": { "scores": [{ "node": "oven-1", "points": 0 }, { "node": "oven-2", "points": 0 }, { "node": "counter", "points": 0 }] }
    });
    assert_eq!(answer["last"], golden);
    assert_eq!(answer["uid"], "uid-db-7");
    assert_eq!(
        answer["now"]["nodes"],
        json!([no_storage(), too_full("oven-1"), too_full("oven-2")])
    );
    assert!(
        answer["notes"][0]
            .as_str()
            .unwrap()
            .contains("pods are not watched"),
        "{answer}"
    );

    let mut fitting = args("db-8");
    fitting["Pod"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "data-db-0".into();
    post(&bakery, "/filter", fitting.to_string()).await;
    let answer = parsed(get(&bakery, "/why?pod=default/db-8").await);
    let score = json!({ "points": 10, "tier": "Good", "upToDate": 1, "room": 1000 });
    assert_eq!(
        answer["last"]["filter"]["nodes"][1],
        json!({ "node": "oven-2", "fits": true, "score": score })
    );
    let elsewhere = &answer["last"]["filter"]["nodes"][0]["reasons"][0];
    let golden = json!({ "reason": "DataElsewhere", "claim": "default/data-db-0", "copies": [{ "node": "oven-2", "state": "UpToDate" }] });
    assert_eq!(elsewhere, &golden);
}

fn parsed_list(answer: (StatusCode, String)) {
    assert!(parsed(answer).is_array());
}

#[tokio::test]
async fn each_way_a_request_can_end_is_remembered() {
    let bakery = bakery();
    let mut args = args("db-9");
    let claims = |args: &mut Value, claim: &str| {
        args["Pod"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim.into();
    };
    claims(&mut args, "unborn");
    post(&bakery, "/filter", args.to_string()).await;
    let answer = parsed(get(&bakery, "/why?pod=default/db-9").await);
    let golden = json!({
        "outcome": "NotYet", "reasons": [{ "reason": "ClaimMissing", "claim": "default/unborn" }],
        "sentence": "claim default/unborn does not exist (yet)"
    });
    assert_eq!(
        (&answer["last"]["filter"], &answer["now"]),
        (&golden, &golden)
    );

    args["Pod"]["spec"]["volumes"] = json!([]);
    post(&bakery, "/filter", args.to_string()).await;
    let answer = parsed(get(&bakery, "/why?pod=default/db-9").await);
    assert_eq!(
        answer["last"]["filter"],
        json!({ "outcome": "NotOurs", "nodes": 3 })
    );
    assert_eq!(answer["now"], json!({ "outcome": "NotOurs" }));
}

#[tokio::test]
async fn a_page_to_read_by_parameter_or_by_accept() {
    let bakery = bakery();
    post(&bakery, "/filter", args("db-2").to_string()).await;
    let request = |path: &str, accept: Option<&str>| {
        let request = Request::get(path);
        let request = match accept {
            Some(accept) => request.header("accept", accept),
            None => request,
        };
        request.body(Body::empty()).unwrap()
    };
    let (_, kind, page) = send(&bakery, request("/why?pod=default/db-2&format=text", None)).await;
    assert_eq!(kind, "text/plain; charset=utf-8");
    let lines: Vec<&str> = page.lines().filter(|line| !line.contains("20")).collect();
    let golden = [
        "pod default/db-2 (uid-db-2)",
        "",
        "  0 of 3 nodes can hold its volumes",
        "  oven-1   no: hdd pool: 3 of 5 GiB free, 2 reserved for default/db-1, needs 4",
        "  oven-2   no: hdd pool: 2 of 10 GiB free, needs 4",
        "  counter  no: node has no storage (no LocalStorageNode)",
        "",
        "  claim default/data-db-2: new, 4.0 GiB of an hdd pool",
        "  0 of 3 nodes can hold its volumes",
        "  counter  no: node has no storage (no LocalStorageNode)",
        "  oven-1   no: hdd pool: 3 of 5 GiB free, 2 reserved for default/db-1, needs 4",
        "  oven-2   no: hdd pool: 2 of 10 GiB free, needs 4",
    ];
    assert_eq!(lines, golden, "{page}");
    assert!(
        page.contains("\nlast filtered 0 s ago, 20")
            || page.contains("\nlast filtered 1 s ago, 20"),
        "{page}"
    );
    for (accept, text) in [
        ("text/plain", true),
        ("text/html, text/plain;q=0.9", true),
        ("application/json, text/plain", false),
        ("*/*", false),
    ] {
        let (_, kind, _) = send(&bakery, request("/why?pod=default/db-2", Some(accept))).await;
        assert_eq!(kind.starts_with("text/plain"), text, "{accept}: {kind}");
    }
    let (_, kind, _) = send(
        &bakery,
        request("/why?pod=default/db-2&format=json", Some("text/plain")),
    )
    .await;
    assert_eq!(kind, "application/json", "the parameter wins");
    let (status, kind, body) = send(&bakery, request("/why?format=text", None)).await;
    assert_eq!(
        (status, kind.as_str()),
        (StatusCode::BAD_REQUEST, "text/plain; charset=utf-8")
    );
    assert_eq!(
        body,
        "parameter pod is missing: ask with pod=NAMESPACE/NAME, such as /why?pod=default/db-0\n"
    );
}

#[tokio::test]
async fn wrong_questions_are_told_what_would_be_right() {
    let bakery = bakery();
    let form = "ask with pod=NAMESPACE/NAME, such as /why?pod=default/db-0";
    for (path, status, error) in [
        ("/why", 400, format!("parameter pod is missing: {form}")),
        ("/why?pod=", 400, format!("parameter pod is \"\": {form}")),
        (
            "/why?pod=db-2",
            400,
            format!("parameter pod is \"db-2\": {form}"),
        ),
        (
            "/why?pod=a/b/c",
            400,
            format!("parameter pod is \"a/b/c\": {form}"),
        ),
        (
            "/why?pod=/db-2",
            400,
            format!("parameter pod is \"/db-2\": {form}"),
        ),
        (
            "/why?pod=a/B",
            400,
            format!("parameter pod is \"a/B\": {form}"),
        ),
        (
            "/why?pod=a/b&pod=a/c",
            400,
            "parameter pod is \"a/c\": it must be given once".to_owned(),
        ),
        (
            "/why?pod=a/b&fromat=text",
            400,
            "parameter fromat is \"text\": there is no such parameter, there are pod, format"
                .to_owned(),
        ),
        (
            "/why?pod=a/b&format=xml",
            400,
            "parameter format is \"xml\": it must be json or text".to_owned(),
        ),
    ] {
        let (got, body) = get(&bakery, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (got.as_u16(), body["error"].as_str()),
            (status, Some(error.as_str())),
            "{path}"
        );
        assert!(
            body["field"].is_string() && body["value"].is_string() && body["expected"].is_string(),
            "{body}"
        );
    }
    let (status, body) = get(&bakery, "/why?pod=default/db-1").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let error = body["error"].as_str().unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    for part in [
        "nothing is known of pod default/db-1: of 0 requests since 20",
        "none of the dump's 1 pods has this name",
        "room is reserved for it on oven-1",
        "send the pod itself to POST /simulate",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(
        post(&bakery, "/why?pod=default/db-2", "").await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        get(&bakery, "/simulate").await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn while_lists_are_missing_only_the_last_decision_is_told() {
    let health = health();
    let bakery = patient(app(&health));
    post(&bakery, "/filter", args("db-7").to_string()).await;
    health
        .readiness("watch LocalVolume")
        .not_ready("the first list has not arrived yet");
    let starting =
        "storage scheduler is starting: watch LocalVolume: the first list has not arrived yet";
    let answer = parsed(get(&bakery, "/why?pod=default/db-7").await);
    assert_eq!(
        (&answer["now"], &answer["notes"][1]),
        (&Value::Null, &json!(starting))
    );
    assert_eq!(answer["last"]["filter"]["refused"], 3);
    let (status, body) = post(&bakery, "/simulate", ovens()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({ "error": starting })
    );
    post(&bakery, "/filter", args("db-7").to_string()).await;
    let answer = parsed(get(&bakery, "/why?pod=default/db-7").await);
    assert_eq!(
        answer["last"]["filter"],
        json!({ "outcome": "NotYet", "reasons": [], "sentence": starting })
    );
}
