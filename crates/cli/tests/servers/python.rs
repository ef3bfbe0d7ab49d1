//! Servers in Python.

use crate::harness::load::Client::{self, KeepAlive, OneShot, SlowAnswer, SlowRequest};
use crate::server::servers;

/// As for a web server, with an answer that takes 1 s.
pub(crate) const APPLICATION: &[Client] =
    &[OneShot, OneShot, KeepAlive(300), KeepAlive(1000), SlowRequest, SlowAnswer];

/// For servers that close every connection after an answer.
pub(crate) const APPLICATION_ONCE: &[Client] =
    &[OneShot, OneShot, OneShot, SlowRequest, SlowAnswer];

const PYTHON: &str = "/usr/bin/python3";
const WSGI: (&str, &str) = ("app.py", include_str!("apps/wsgi.py"));
const ASGI: (&str, &str) = ("app.py", include_str!("apps/asgi.py"));

servers! {
    gunicorn: "gunicorn" {
        needs: &["gunicorn"],
        files: &[WSGI],
        command: &["gunicorn", "-w", "1", "--threads", "8", "-b", "0.0.0.0:{port}", "app:app"],
        clients: APPLICATION,
    }
    gunicorn_sync: "gunicorn" {
        needs: &["gunicorn"],
        files: &[WSGI],
        command: &["gunicorn", "-w", "4", "-b", "0.0.0.0:{port}", "app:app"],
        clients: APPLICATION_ONCE,
    }
    gunicorn_gevent: "python3-gevent" {
        needs: &["gunicorn", "/usr/lib/python3/dist-packages/gevent"],
        files: &[WSGI],
        command: &["gunicorn", "-k", "gevent", "-b", "0.0.0.0:{port}", "app:app"],
        clients: APPLICATION,
    }
    uvicorn: "python3-uvicorn" {
        needs: &["/usr/lib/python3/dist-packages/uvicorn"],
        files: &[ASGI],
        command: &[PYTHON, "-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "app:app"],
        clients: APPLICATION,
    }
    hypercorn: "python3-hypercorn" {
        needs: &["hypercorn"],
        files: &[ASGI],
        command: &["hypercorn", "-w", "1", "-b", "0.0.0.0:{port}", "app:app"],
        clients: APPLICATION,
    }
    waitress: "python3-waitress" {
        needs: &["/usr/lib/python3/dist-packages/waitress"],
        files: &[WSGI],
        command: &[PYTHON, "-m", "waitress", "--listen=*:{port}", "--threads=8", "app:app"],
        clients: APPLICATION,
    }
    uwsgi: "uwsgi-plugin-python3" {
        needs: &["uwsgi", "/usr/lib/uwsgi/plugins/python3_plugin.so"],
        files: &[WSGI],
        command: &["uwsgi", "--plugin", "python3", "--http-socket", ":{port}", "--master",
            "--processes", "2", "--threads", "3", "--die-on-term", "--module", "app", "--callable",
            "app"],
        clients: APPLICATION_ONCE,
    }
    cheroot: "python3-cheroot" {
        needs: &["/usr/lib/python3/dist-packages/cheroot"],
        files: &[("server.py", include_str!("apps/cheroot_server.py"))],
        command: &[PYTHON, "server.py", "{port}"],
        clients: APPLICATION,
    }
    bottle: "python3-bottle" {
        needs: &["/usr/lib/python3/dist-packages/bottle.py"],
        files: &[("server.py", include_str!("apps/bottle_server.py"))],
        command: &[PYTHON, "server.py", "{port}"],
        clients: &[OneShot, OneShot, OneShot],
    }
    tornado: "python3-tornado" {
        needs: &["/usr/lib/python3/dist-packages/tornado"],
        files: &[("server.py", include_str!("apps/tornado_server.py"))],
        command: &[PYTHON, "server.py", "{port}"],
        clients: APPLICATION,
    }
    aiohttp: "python3-aiohttp" {
        needs: &["/usr/lib/python3/dist-packages/aiohttp"],
        files: &[("server.py", include_str!("apps/aiohttp_server.py"))],
        command: &[PYTHON, "server.py", "{port}"],
        clients: APPLICATION,
    }
    twisted: "python3-twisted" {
        needs: &["twist3"],
        files: &[("index.html", "served\n")],
        command: &["twist3", "web", "--listen=tcp:{port}", "--path={dir}"],
        clients: crate::web::WEB,
    }
    http_server: "python3" {
        needs: &[PYTHON],
        files: &[("index.html", "served\n")],
        command: &[PYTHON, "-m", "http.server", "{port}"],
        clients: &[OneShot, OneShot, SlowRequest],
    }
    python_threads: "python3" {
        needs: &[PYTHON],
        files: &[("server.py", include_str!("apps/threading_server.py"))],
        command: &[PYTHON, "server.py", "{port}"],
        clients: APPLICATION,
    }
    granian: "granian of PyPI" {
        needs: &["granian"],
        files: &[ASGI],
        command: &["granian", "--interface", "asgi", "--host", "0.0.0.0", "--port", "{port}", "app:app"],
        kill: false,
        clients: APPLICATION,
    }
}
