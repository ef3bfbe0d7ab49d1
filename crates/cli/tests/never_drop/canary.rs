//! A canary, its promotion and its rollback, under load.

use crate::harness::load::{Client, Loss, while_served};
use crate::harness::named_run::RunSetup;
use crate::harness::{User, find_program, skip};

/// Answers with its release, for as many connections at a time as there are.
const PYTHON: &str = "
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = sys.argv[2].encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

const NODE: &str = "require('http').createServer((_, answer) => answer.end(process.argv[2]))
  .listen(Number(process.argv[1]), '127.0.0.1')";

#[test]
fn canaries_lose_nothing() {
    let clients: Vec<Client> = [Client::OneShot, Client::OneShot, Client::KeepAlive(3)].repeat(2);
    let other = User::all().last().copied().unwrap_or(User::Current);
    for (program, flag, text, user) in
        [("python3", "-c", PYTHON, User::Current), ("node", "-e", NODE, other)]
    {
        let Some(program) = find_program(program) else {
            skip("canaries_lose_nothing", &format!("no {program}"));
            continue;
        };
        let program = program.to_str().unwrap();
        let setup = RunSetup::new(user);
        let (port, to) = (setup.port.to_string(), setup.address());
        let run = setup.run(&["-n", "2"], &[program, flag, text, &port, "one"]);
        run.wait_for_ready(2);
        let ((), tally) = while_served(&clients, to, || {
            for end in ["--promote", "--rollback"] {
                let words = ["--canary", "40%", "--", program, flag, text, &port, "two"];
                run.verb("upgrade", &words);
                run.verb("upgrade", &[end]);
            }
        });
        let stderr = run.supervisor.stderr();
        assert!(tally.answered > 0, "{stderr}");
        // A client repeats a request on a connection that was idle (RFC 9112, 9.3.1).
        let is_lost = |(loss, _): &&(Loss, String)| *loss != Loss::CutWhenIdle;
        let lost: Vec<_> = tally.lost.iter().filter(is_lost).collect();
        assert!(lost.is_empty(), "{lost:?}\n{stderr}");
        run.stop();
    }
}
