//! Every curl line of the README, run as it stands, gives the documented answer.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use tidegate_tests::{Server, eventually, workspace_dir};

/// What a curl line must answer: by what the line holds, in the order of the README.
const DOCUMENTED: &[(&str, u16, &[&str])] = &[
    ("-X PUT localhost:8081/v1/sales/phone ", 201, &["\"initial\":10", "\"available\":10"]),
    ("/v1/sales/phone/open", 200, &["\"state\":\"open\""]),
    (
        "-i -X POST localhost:8080/v1/sales/phone/orders",
        202,
        &["HTTP/1.1 202", "location: /v1/tickets/", "\"queued\""],
    ),
    ("'Idempotency-Key: a-1'", 202, &["$TICKET"]),
    ("'Idempotency-Key: a-2'", 409, &["limit-reached", "$TICKET"]),
    ("/v1/tickets/$TICKET?wait=10", 200, &["$TICKET"]),
    ("/v1/tickets/$TICKET/events", 200, &["event: ticket", "id: 1", "\"queued\"", "id: 3", "\"paid\""]),
    ("/order-workers/receive", 200, &["$TICKET", "\"receipt\"", "\"buyer\":\"alice\""]),
    ("/v1/tickets/$TICKET/created", 200, &["\"awaiting_payment\"", "\"order_id\":\"row-1\""]),
    ("/order-workers/ack", 200, &["$RECEIPT", "\"ok\":true"]),
    ("/v1/tickets/$TICKET/paid", 200, &["\"status\":\"paid\"", "\"payment_id\":\"pay-1\""]),
    ("/v1/sales/phone/audit", 200, &["\"holds\":true", "\"sold\":1"]),
    ("-s localhost:8081/v1/topics", 200, &["\"group\":\"order-workers\",\"backlog\":0,"]),
];

fn curl_lines() -> Vec<String> {
    let readme = std::fs::read_to_string(workspace_dir().join("README.md")).unwrap();
    let blocks = readme.split("```").skip(1).step_by(2);
    blocks.flat_map(str::lines).filter(|line| line.starts_with("curl ")).map(str::to_owned).collect()
}

/// What the reader is told to take from an answer, as variables of the shell.
#[derive(Default)]
struct Taken {
    ticket: String,
    receipt: String,
}

impl Taken {
    /// From the first answer that has it.
    fn take_from(&mut self, answer: &str) {
        for (kept, name) in [(&mut self.ticket, "ticket"), (&mut self.receipt, "receipt")] {
            if kept.is_empty()
                && let Some((_, after)) = answer.split_once(&format!("\"{name}\":\""))
            {
                after.split('"').next().unwrap().clone_into(kept);
            }
        }
    }

    fn put_into(&self, part: &str) -> String {
        part.replace("$TICKET", &self.ticket).replace("$RECEIPT", &self.receipt)
    }
}

/// A line that runs; what it prints goes to `output`, so that others can see how far it is.
struct Running {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Running {
    fn printed(&self) -> String {
        std::fs::read_to_string(self.output.path()).unwrap()
    }
}

fn start(line: &str, ports: [u16; 2], taken: &Taken) -> Running {
    let line = line
        .replace("localhost:8080", &format!("127.0.0.1:{}", ports[0]))
        .replace("localhost:8081", &format!("127.0.0.1:{}", ports[1]));
    let command = format!("{line} --max-time 25 -w '\\n%{{http_code}}'");
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).env("TICKET", &taken.ticket).env("RECEIPT", &taken.receipt);
    let output = tempfile::NamedTempFile::new().unwrap();
    let child = shell.stdout(Stdio::from(output.reopen().unwrap())).spawn().unwrap();
    Running { child, output }
}

fn assert_documented(line: &str, mut running: Running, taken: &Taken) -> String {
    let ended = running.child.wait().unwrap();
    assert!(ended.success(), "{line}: {ended} (is curl installed? `make test` installs it)");
    let answer = running.printed();
    let (_, status, parts) = DOCUMENTED.iter().find(|(part, ..)| line.contains(part)).unwrap();
    assert!(answer.ends_with(&format!("\n{status}")), "{line}\nmust answer {status}: {answer}");
    for part in *parts {
        assert!(answer.contains(&taken.put_into(part)), "{line}\nmust answer {part}: {answer}");
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_curl_line_gives_the_documented_answer() {
    let server = Server::start().await;
    let ports = server.settings.ports();
    let lines = curl_lines();
    assert_eq!(lines.len(), DOCUMENTED.len(), "each curl line of the README has its answer here: {lines:#?}");
    let mut taken = Taken::default();
    // Long polls and streams stay open while the reader goes on in another terminal.
    let mut in_the_background = Vec::new();
    for (line, (part, ..)) in lines.iter().zip(DOCUMENTED) {
        assert!(line.contains(part), "another order than documented here: {line}");
        let running = start(line, ports, &taken);
        if line.contains("/events") {
            let connected = async || running.printed().contains("\n\n").then_some(());
            eventually("the stream tells the present state", connected).await;
        }
        if line.contains("wait=10") || line.contains("/events") {
            in_the_background.push((line, running));
            continue;
        }
        let answer = assert_documented(line, running, &taken);
        taken.take_from(&answer);
    }
    assert_eq!((taken.ticket.len(), taken.receipt.is_empty()), (26, false));
    for (line, running) in in_the_background {
        assert_documented(line, running, &taken);
    }
    server.shop.audit("phone").await;
}
