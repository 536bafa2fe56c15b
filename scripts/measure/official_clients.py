"""What the official Python clients see: asks plain and streamed until told to end, and prints what became of it as JSON.

Run by `clients`, by the Python that has the packages: API URL MODEL KEY REPEATS. Each line on standard input is the name of what happens from
now on; its end ends this.
"""

import json
import sys
import threading
import time

API, URL, MODEL, KEY, REPEATS = sys.argv[1:6]
# A client that waits longer gives up.
PATIENCE = 30
WORDS = "Say something."


class Unfinished(Exception):
    """A stream that ended without saying why."""


def openai():
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=PATIENCE, max_retries=int(REPEATS))
    messages = [{"role": "user", "content": WORDS}]

    def plain():
        assert client.chat.completions.create(model=MODEL, messages=messages, max_tokens=20).choices[0].message.content

    def streamed(seen):
        reason = None
        for chunk in client.chat.completions.create(model=MODEL, messages=messages, max_tokens=20, stream=True):
            for choice in chunk.choices:
                if choice.delta.content:
                    seen()
                reason = choice.finish_reason or reason
        if not reason:
            raise Unfinished

    return plain, streamed


def anthropic():
    import anthropic

    client = anthropic.Anthropic(base_url=URL, api_key=KEY, timeout=PATIENCE, max_retries=int(REPEATS))
    asked = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": WORDS}]}

    def plain():
        assert client.messages.create(**asked).content[0].text

    def streamed(seen):
        reason = None
        for event in client.messages.create(**asked, stream=True):
            if event.type == "content_block_delta":
                seen()
            if event.type == "message_delta":
                reason = event.delta.stop_reason
        if not reason:
            raise Unfinished

    return plain, streamed


def gemini():
    from google import genai

    options = genai.types.HttpOptions(base_url=URL, timeout=PATIENCE * 1000)
    client = genai.Client(api_key=KEY, http_options=options)
    config = genai.types.GenerateContentConfig(max_output_tokens=20)

    def plain():
        assert client.models.generate_content(model=MODEL, contents=WORDS, config=config).text

    def streamed(seen):
        reason = None
        for chunk in client.models.generate_content_stream(model=MODEL, contents=WORDS, config=config):
            if chunk.text:
                seen()
            reason = chunk.candidates[0].finish_reason or reason
        if not reason:
            raise Unfinished

    return plain, streamed


def main():
    plain, streamed = {"openai": openai, "anthropic": anthropic, "gemini": gemini}[API]()
    phase, is_over = ["start"], threading.Event()

    def listen():
        for line in sys.stdin:
            phase[0] = line.strip()
        is_over.set()

    threading.Thread(target=listen, daemon=True).start()
    found = {}
    while not is_over.is_set():
        for kind in (plain, streamed):
            now, began, tokens = phase[0], time.monotonic(), []
            counts = found.setdefault(now, {"asked": 0, "before": 0, "after": 0, "slowest": 0.0, "said": []})
            counts["asked"] += 1
            try:
                kind() if kind is plain else kind(lambda: tokens or tokens.append(time.monotonic() - began))
            except Exception as error:
                counts["after" if tokens else "before"] += 1
                counts["said"] = [*counts["said"], f"{kind.__name__}: {type(error).__name__}: {error}"[:300]][:3]
                time.sleep(0.05)
            counts["slowest"] = max(counts["slowest"], tokens[0] if tokens else time.monotonic() - began)
    print(json.dumps(found))


main()
