//! The workshop's project: a database that is told its users by the environment, and a client that
//! is built from a Dockerfile, talks SQL to it by name, and is entered by hand.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use super::compose::Project;
use crate::harness::{Done, Hull, repository};

const PROJECT: &str = "\
services:
  mysql:
    image: mysql
    environment:
      MYSQL_ROOT_PASSWORD: root
      MYSQL_DATABASE: test
      MYSQL_USER: test
      MYSQL_PASSWORD: test
  python:
    build:
      context: ./
      dockerfile: python-mysql.Dockerfile
    links:
      - mysql
    command: /bin/sh
";

/// What the exercise goes on with: data that stays, a client that waits until the database answers.
const MORE: &str = "\
services:
  mysql:
    healthcheck:
      test: [CMD, mysql, --user=test, --password=test, --execute=SELECT 1, test]
      interval: 1s
      retries: 100
    volumes:
      - mysql_data:/var/lib/mysql
  python:
    depends_on:
      mysql: {condition: service_healthy}
  counter:
    build:
      context: ./
      dockerfile: python-mysql.Dockerfile
    depends_on:
      mysql: {condition: service_healthy}
    profiles: [count]
    command: python database.py
volumes:
  mysql_data:
";

const DOCKERFILE: &str = "\
FROM python
WORKDIR /app/
COPY packages /tmp/packages
RUN dpkg --install /tmp/packages/*.deb && pip install --no-cache-dir --no-index /tmp/packages/*.whl
COPY database.py .
";

const CLIENT: &str = "\
import mysql.connector

db = mysql.connector.connect(
    host=\"mysql\",
    user=\"test\",
    password=\"test\",
    database=\"test\",
)
cursor = db.cursor()
cursor.execute(\"CREATE TABLE IF NOT EXISTS visits (id INT AUTO_INCREMENT PRIMARY KEY, who TEXT)\")
cursor.execute(\"INSERT INTO visits (who) VALUES (%s)\", (\"O'Hara\",))
db.commit()
cursor.execute(\"SELECT COUNT(*), MAX(who) FROM visits\")
print(*cursor.fetchone())
";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    let names = std::fs::read_dir(from).expect("make test gets it: scripts/clients");
    for entry in names.map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn feed(project: &Project<'_>, arguments: &[&str], input: &str) -> Done {
    let mut command = project.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn the_workshops_database_is_asked_by_name() {
    let hull = Hull::shared();
    let files = [
        ("docker-compose.yml", PROJECT),
        ("docker-compose.more.yml", MORE),
        ("python-mysql.Dockerfile", DOCKERFILE),
        ("database.py", CLIENT),
    ];
    let project = Project::new(&hull, "workshop", &files);
    let packages = repository().join("target/clients/mysql");
    copy(&packages, &project.path().join("packages"));
    let both = [
        "--file",
        "docker-compose.yml",
        "--file",
        "docker-compose.more.yml",
    ];
    let with = |rest: &[&'static str]| [&both[..], rest].concat();

    project.ok(&with(&["--profile", "count", "build"]));
    project.ok(&with(&["up", "-d", "mysql"]));
    let mut logs = project
        .command(&with(&["logs", "-f", "mysql"]))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    let ready = lines.find(|line| {
        let line = line.as_ref().unwrap();
        line.contains("ready for connections")
    });
    assert!(ready.is_some(), "the log is followed until it is ready");

    // By hand, as the workshop enters it; the client waits until the database is healthy.
    let shell = with(&["run", "--rm", "-i", "-T", "python"]);
    let typed = "mysql --host=mysql --user=test --database=test --password=test --skip-column-names \
                 --execute='SELECT 6 * 7'\npython database.py\n";
    let done = feed(&project, &shell, typed);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "42\n1 O'Hara\n"),
        "{done:#?}"
    );
    let shown = project.ok(&with(&[
        "ps",
        "--format",
        "{{.Service}} {{.State}} {{.Health}}",
    ]));
    assert_eq!(shown, "mysql running healthy");
    let asked = "SELECT COUNT(*) FROM visits";
    let root = [
        "exec", "-T", "mysql", "mysql", "-uroot", "-proot", "-Ne", asked, "test",
    ];
    assert_eq!(project.ok(&with(&root)), "1");
    let wrong = [
        "exec", "-T", "mysql", "mysql", "-uroot", "-pwrong", "-e", asked, "test",
    ];
    let refused = project.run(&with(&wrong));
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(refused.stderr.contains("Access denied"), "{refused:#?}");

    // Following ends with what is followed, and data outlive what is taken down.
    project.ok(&with(&["down"]));
    assert!(logs.wait().unwrap().success());
    let count = with(&["--profile", "count", "run", "--rm", "-T", "counter"]);
    assert_eq!(project.ok(&count), "2 O'Hara");
    project.ok(&with(&["--profile", "count", "up", "-d"]));
    let code = project.ok(&with(&["--profile", "count", "wait", "counter"]));
    assert!(code.ends_with("status code 0"), "{code}");
    assert_eq!(
        project.ok(&with(&[
            "--profile",
            "count",
            "logs",
            "--no-log-prefix",
            "counter"
        ])),
        "3 O'Hara"
    );
    project.ok(&with(&["--profile", "count", "down", "-v"]));
    let left = hull.ok(&["volume", "ls", "-q", "-f", "name=workshop_mysql_data"]);
    assert_eq!(left, "");
    assert_eq!(
        project.ok(&count),
        "1 O'Hara",
        "without its volume it begins anew"
    );
    project.ok(&with(&["down", "-v"]));
}
