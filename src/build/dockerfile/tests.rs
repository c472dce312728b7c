use super::*;
use proptest::prelude::*;

fn file(text: &str) -> Result<Dockerfile, Mistake> {
    parse(&Source {
        name: "Dockerfile".to_owned(),
        text: text.to_owned(),
    })
}

fn one(line: &str) -> Instruction {
    let mut file = file(&format!("FROM x\n{line}")).unwrap();
    file.stages[0].steps.remove(0).instruction
}

fn refused(line: &str) -> String {
    match file(&format!("FROM x\n{line}")) {
        Ok(file) => panic!("{line}: {file:?}"),
        Err(mistake) => {
            assert_eq!(mistake.line, 2, "{line}: {mistake}");
            mistake.message
        }
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn stages_have_names_and_platforms() {
    let text =
        "ARG V=1\nFROM --platform=$BUILDPLATFORM debian:$V AS Build\nRUN a\nfrom build\nCMD b\n";
    let file = file(text).unwrap();
    assert_eq!(file.arguments.len(), 1);
    let [build, last] = file.stages.as_slice() else {
        panic!("{file:?}")
    };
    assert_eq!(build.base, "debian:$V");
    assert_eq!(build.name.as_deref(), Some("build"));
    assert_eq!(build.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!((last.base.as_str(), last.name.as_ref()), ("build", None));
    assert_eq!(last.steps[0].text, "CMD b");
}

#[test]
fn commands_have_two_forms() {
    assert_eq!(
        one("CMD [\"a\", \"b c\"]"),
        Instruction::Cmd(Command::Exec(strings(&["a", "b c"])))
    );
    assert_eq!(
        one("cmd [a, b]"),
        Instruction::Cmd(Command::Shell("[a, b]".to_owned()))
    );
    assert_eq!(
        one("ENTRYPOINT []"),
        Instruction::Entrypoint(Command::Exec(Vec::new()))
    );
    let Instruction::Run(run) =
        one("RUN --network=none --mount=type=cache,target=/c echo  \"$A\" --x")
    else {
        panic!()
    };
    assert_eq!(run.command, Command::Shell("echo  \"$A\" --x".to_owned()));
    assert_eq!(run.mounts, ["type=cache,target=/c"]);
    assert_eq!(run.network, Network::None);
}

#[test]
fn names_and_values_come_in_pairs() {
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        one("ENV A=1 B=\"x y\" C=d\\ e"),
        Instruction::Env(vec![
            pair("A", "1"),
            pair("B", "\"x y\""),
            pair("C", "d\\ e")
        ])
    );
    assert_eq!(
        one("ENV A a b  c"),
        Instruction::Env(vec![pair("A", "a b  c")])
    );
    assert_eq!(
        one("LABEL a.b=c"),
        Instruction::Label(vec![pair("a.b", "c")])
    );
    assert_eq!(
        one("ARG A B=2"),
        Instruction::Arg(vec![("A".into(), None), ("B".into(), Some("2".into()))])
    );
}

#[test]
fn copies_have_options_sources_and_heredocs() {
    let Instruction::Copy(copy) =
        one("COPY --from=build --chown=1:2 --link --exclude=*.o --exclude=b a b /c/")
    else {
        panic!()
    };
    assert_eq!(copy.sources, ["a", "b"]);
    assert_eq!(copy.destination, "/c/");
    assert_eq!(
        (copy.from.as_deref(), copy.chown.as_deref(), copy.link),
        (Some("build"), Some("1:2"), true)
    );
    assert_eq!(copy.exclude, ["*.o", "b"]);
    let Instruction::Copy(copy) = one("COPY <<a <<\"b\" x /d/\n1\na\n2\nb\n") else {
        panic!()
    };
    assert_eq!(copy.sources, ["x"]);
    let files: Vec<_> = copy
        .heredocs
        .iter()
        .map(|h| (h.name.as_str(), h.content.as_str()))
        .collect();
    assert_eq!(files, [("a", "1\n"), ("b", "2\n")]);
    let Instruction::Add(add) = one("ADD [\"a b\", \"/c d\"]") else {
        panic!()
    };
    assert_eq!(
        (add.sources, add.destination),
        (strings(&["a b"]), "/c d".to_owned())
    );
}

#[test]
fn health_checks_are_read() {
    assert_eq!(one("HEALTHCHECK NONE"), Instruction::Healthcheck(None));
    let Instruction::Healthcheck(Some(health)) =
        one("HEALTHCHECK --interval=5s --timeout=1m30s --retries=3 CMD curl --fail x || exit 1")
    else {
        panic!()
    };
    assert_eq!(
        health.command,
        Command::Shell("curl --fail x || exit 1".to_owned())
    );
    assert_eq!(
        health.fields,
        [
            ("Interval", 5_000_000_000),
            ("Timeout", 90_000_000_000),
            ("Retries", 3)
        ]
    );
}

#[test]
fn mistakes_are_named_where_they_are() {
    for (line, message) in [
        ("RNU x", "unknown instruction: RNU (did you mean RUN?)"),
        ("RUN", "RUN requires at least one argument"),
        ("COPY a", "COPY requires at least two arguments"),
        (
            "COPY --form=x a b",
            "unknown flag: --form (did you mean --from?)",
        ),
        ("COPY --from a b", "--from requires a value"),
        ("ADD --from=a b c", "unknown flag: --from"),
        (
            "COPY --chown=1 --chown=2 a b",
            "--chown can be given only once",
        ),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "B must be NAME=value"),
        ("ENV =1", "a name is missing"),
        ("ARG =x", "ARG requires a name"),
        ("SHELL sh", "SHELL requires a JSON list"),
        ("USER a b", "USER requires exactly one argument"),
        ("HEALTHCHECK CMD", "HEALTHCHECK CMD requires a command"),
        ("HEALTHCHECK --interval=x CMD a", "invalid duration"),
        ("HEALTHCHECK MAYBE", "unknown type \"MAYBE\""),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RNU x", "unknown instruction"),
        ("RUN --network=lan x", "--network is default, none or host"),
        (
            "RUN --security=insecure x",
            "--security=insecure is not there",
        ),
        ("FROM", "FROM requires an image"),
        ("FROM a b", "FROM takes IMAGE"),
        ("FROM a AS 1x", "invalid name \"1x\""),
        ("VOLUME []", "VOLUME requires paths"),
        ("COPY <<EOF /x", "the heredoc \"EOF\" has no end"),
    ] {
        let said = refused(line);
        assert!(said.contains(message), "{line}: {said}");
    }
    let mistake = file("FROM x\nCOPY --form=x a b\n").unwrap_err();
    assert_eq!(
        mistake.to_string(),
        "Dockerfile:2:6: unknown flag: --form (did you mean --from?)\n 2 | COPY --form=x a b\n   |      ^^^^^^^^"
    );
    for (text, message) in [
        ("", "is empty"),
        ("# only this\n", "no FROM"),
        ("RUN x\nFROM y\n", "RUN before the first FROM"),
        (
            "FROM a AS b\nFROM c AS B\n",
            "there is a stage \"b\" already",
        ),
    ] {
        let said = file(text).unwrap_err().message;
        assert!(said.contains(message), "{text}: {said}");
    }
}

#[test]
fn a_trigger_keeps_its_heredoc() {
    let Instruction::Onbuild(text) = one("ONBUILD RUN <<X\necho $A\nX\n") else {
        panic!()
    };
    let inner = instruction(
        &Source {
            name: "x".into(),
            text,
        },
        '\\',
    )
    .unwrap();
    let Instruction::Run(run) = inner.instruction else {
        panic!()
    };
    assert_eq!(run.heredocs[0].content, "echo $A\n");
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(
        text in "(?s)((FROM|RUN|COPY|ENV|ARG|HEALTHCHECK|ONBUILD|LABEL|SHELL|[ -~é])[ =\"'<\\\\\\n\\[\\]a-]{0,6}){0,12}"
    ) {
        if let Err(mistake) = file(&text) {
            let shown = mistake.to_string();
            prop_assert!(shown.contains('^') && mistake.line >= 1);
        }
    }

    #[test]
    fn bytes_of_a_real_file_may_be_missing(at in 0usize..200, length in 0usize..20) {
        let text = "# syntax=x\nARG A=1\nFROM a:$A AS b\nRUN --mount=type=cache,target=/x <<E cat\nfoo\nE\n\
            COPY --from=b [\"a\", \"b\"]\nENV A=\"b c\" \\\n  D=e\nHEALTHCHECK --retries=2 CMD x\nONBUILD RUN y\n";
        let mut bytes = text.as_bytes().to_vec();
        let at = at.min(bytes.len());
        bytes.drain(at..(at + length).min(bytes.len()));
        let _ = file(&String::from_utf8(bytes).unwrap());
    }
}
