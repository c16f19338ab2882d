"""The language model's judge against a real server that speaks the protocol, and against servers that do not."""

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from saelite.evaluations.judges import Passage
from saelite.evaluations.llm_judge import JudgeError, LLMJudge
from saelite.storage import cache

KEY = "sk-secret-123456"
EXAMPLE = Passage((" a", " river", " bank"), "a river bank", (0.0, 2.0, 1.5))
PASSAGES = [
    Passage((" a", " lake"), "a lake"),
    Passage((" a", " house"), "a house"),
    Passage((" my", " pond"), "my pond"),
]


class Server(ThreadingHTTPServer):
    """Answers with what `replies` gives for each request: (status, body) or text for a chat completion."""

    def __init__(self, reply):
        self.reply, self.asked, self.keys = reply, [], []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(request)
        server.keys.append(self.headers["Authorization"])
        reply = server.reply(request, len(server.asked))
        status, body = reply if isinstance(reply, tuple) else (200, completion(reply))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("retry-after-ms", "5")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def completion(text):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    )


@pytest.fixture
def serve():
    servers = []

    def start(reply):
        server = Server(reply)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def is_water(request, _=None):
    """A perfect judge: 1 for each numbered passage that names water."""
    content = request["messages"][1]["content"]
    if "Description:" not in content:
        return "Bodies of water."
    return str([int(bool(re.search("lake|pond", line))) for line in re.findall(r"^\d+\. (.*)$", content, re.M)])


def test_describes_detects_and_counts(serve):
    server = serve(is_water)
    judge = LLMJudge("m", server.url, at_once=2, input_price=1.0, output_price=4.0)
    description = judge.describe([EXAMPLE], [])
    assert description == "Bodies of water."
    assert "1. a<< river bank>>" in server.asked[0]["messages"][1]["content"]
    assert judge.detect(description, PASSAGES) == [True, False, True]
    assert sorted(request["messages"][1]["content"].count("\n") for request in server.asked[1:]) == [3, 4]
    used = {"requests": 3, "from_cache": 0, "prompt_tokens": 300, "completion_tokens": 30, "malformed": 0}
    assert judge.usage() == {**used, "cost": pytest.approx((300 + 4 * 30) / 1e6)}
    assert LLMJudge("m", server.url).usage()["cost"] is None


def test_a_rerun_asks_nothing_and_another_question_does(serve):
    server = serve(is_water)
    for _ in range(2):
        judge = LLMJudge("m", server.url)
        assert judge.detect("water", PASSAGES) == [True, False, True]
    assert len(server.asked) == 1 and judge.usage()["from_cache"] == 1 and judge.usage()["prompt_tokens"] == 0
    judge.detect("houses", PASSAGES)
    LLMJudge("other", server.url).detect("water", PASSAGES)
    LLMJudge("m", server.url, options={"temperature": 1}).detect("water", PASSAGES)
    assert len(server.asked) == 4


def test_an_answer_whose_file_was_damaged_is_asked_for_again(serve):
    server = serve(is_water)
    LLMJudge("m", server.url).detect("water", PASSAGES)
    (file,) = (cache.folder() / "answers").glob("*.json")
    whole = file.read_text()
    file.write_text(whole.replace("[1, 0, 1]", "[1, 1, 1]"))
    for asked in 2, 2:  # and kept
        assert LLMJudge("m", server.url).detect("water", PASSAGES) == [True, False, True]
        assert len(server.asked) == asked and file.read_text() == whole


@pytest.mark.parametrize(
    "answer", ["[1, 0]", "[1, 0, 1, 1]", "[1, 0, 2]", "1, 0, 1", "[1,0,1] or [1,1,1]", "Yes.", "", None]
)
def test_a_malformed_answer_is_counted_and_never_guessed(serve, answer):
    judge = LLMJudge("m", serve(lambda *_: answer).url)
    assert judge.detect("water", PASSAGES) == [None] * 3
    assert judge.usage()["malformed"] == 1 and judge.usage()["requests"] == 1


def test_words_around_one_list_do_no_harm_and_an_empty_description_is_none(serve):
    judge = LLMJudge("m", serve(lambda *_: "Sure!\n```[ 1,0,\n1 ]```").url)
    assert judge.detect("water", PASSAGES) == [True, False, True]
    judge = LLMJudge("silent", serve(lambda *_: " \n").url)
    assert judge.describe([EXAMPLE], []) is None and judge.usage()["malformed"] == 1


def test_a_busy_or_failing_server_is_asked_again(serve):
    def busy_first(request, number):
        return ((429, "{}"), (500, "{}"))[number - 1] if number < 3 else is_water(request)

    server = serve(busy_first)
    assert LLMJudge("m", server.url).detect("water", PASSAGES) == [True, False, True]
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "reply, said",
    [
        ((429, "{}"), "limits how often"),
        ((503, "{}"), r"failed \(status 503\), several times"),
        ((401, json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}})), "OPENAI_API_KEY was refused"),
        ((404, "{}"), "check the model's name"),
        ((400, json.dumps({"error": {"message": KEY}})), r"max_tokens.*status 400.*repeats the key"),
        ((400, json.dumps({"error": {"message": "too long"}})), r"status 400.*too long"),
        ((200, "<html>Welcome</html>"), "no chat completion"),
        ((200, '{"choices": []}'), "no chat completion"),
        ((200, '["nonsense"]'), "no chat completion"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_without_the_key(serve, monkeypatch, reply, said):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge = LLMJudge("m", serve(lambda *_: reply).url, retries=1)
    with pytest.raises(JudgeError, match=said) as caught:
        judge.detect("water", PASSAGES)
    assert KEY not in str(caught.value) and "\n" not in str(caught.value) and caught.value.__suppress_context__


def test_a_slow_server_and_one_that_is_not_there(serve):
    server = serve(lambda *_: time.sleep(0.5))
    with pytest.raises(JudgeError, match="did not answer within 0.1 seconds"):
        LLMJudge("m", server.url, timeout=0.1, retries=0).detect("water", PASSAGES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(JudgeError, match="cannot be reached"):
        LLMJudge("m", url, retries=0).detect("water", PASSAGES)


def test_what_was_answered_before_the_server_died_is_kept(serve):
    server = serve(lambda request, number: is_water(request) if number <= 2 else (500, "{}"))
    judge = LLMJudge("m", server.url, at_once=1, workers=1, retries=0)
    with pytest.raises(JudgeError, match="2 new answers are kept"):
        judge.detect("water", PASSAGES)
    server.reply = is_water
    judge = LLMJudge("m", server.url, at_once=1, workers=1, retries=0)
    assert judge.detect("water", PASSAGES) == [True, False, True]
    assert judge.usage()["from_cache"] == 2 and judge.usage()["requests"] == 1


def test_the_key_goes_to_the_server_and_nowhere_else(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(is_water)
    judge = LLMJudge("m", server.url)
    judge.detect("water", PASSAGES)
    assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in json.dumps(judge.settings) and KEY not in repr(judge) and KEY not in str(judge.usage())
    kept = [file for file in cache.folder().rglob("*") if file.is_file() and "models" not in file.parts]
    assert kept and all(KEY not in file.name and KEY.encode() not in file.read_bytes() for file in kept)
    monkeypatch.delenv("OPENAI_API_KEY")
    LLMJudge("n", server.url).detect("water", PASSAGES)
    assert server.keys[1] == "Bearer none-needed"


@pytest.mark.parametrize(
    "url", ["http://me:hunter2@host/v1", "https://host/v1?api_key=hunter2", "https://host/v1#hunter2", "host/hunter2"]
)
def test_an_address_with_credentials_or_without_a_scheme_is_refused(url):
    with pytest.raises(ValueError, match="address") as caught:
        LLMJudge("m", url)
    assert "hunter2" not in str(caught.value)


def test_a_key_is_not_sent_in_the_clear_to_another_machine(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    LLMJudge("model", "http://judge.example/v1")  # no key, nothing to lose
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    LLMJudge("model", "http://127.0.0.1:8000/v1")
    LLMJudge("model", "https://judge.example/v1")
    with pytest.raises(ValueError, match="judge.example is not encrypted") as refused:
        LLMJudge("model", "http://judge.example/v1")
    assert "sk-secret" not in str(refused.value)
