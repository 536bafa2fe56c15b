"""What hapilot is compared with: LiteLLM's proxy and vLLM's router. Imported by `throughput`; does nothing by itself."""

import contextlib
import json
import pathlib
import socket
import subprocess
import urllib.request

import rig

PLACE = rig.ROOT / "target" / "references"
PACKAGES = ["litellm[proxy]", "vllm-router"]
MASTER_KEY = "sk-measured-master"


class Arm:
    """One gateway, which is not ours."""

    def __init__(self, name, port, process, ask):
        self.name, self.port, self.process, self.ask = name, port, process, ask
        self.rates, self.cpu = [], []

    def load(self, question, seconds):
        """Requests a second, and microseconds of processor time for each."""
        own = question.with_name("reference.lua")
        if not own.exists():
            # Without the clients of the others, with the master's key.
            own.write_text("\n".join(question.read_text().splitlines()[:2]) + f"\nwrk.headers['Authorization'] = 'Bearer {MASTER_KEY}'\n")
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        return self.ask(self.name, url, family(self.process.pid), own, seconds, True)[:2]

    def note(self, rate, cpu):
        self.rates.append(rate)
        self.cpu.append(cpu)


def need():
    """Both, put into a place of their own where they are missing."""
    mark = PLACE / "has-references"
    if not mark.exists():
        for command in (["python3", "-m", "venv", str(PLACE)], [str(PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES]):
            if subprocess.run(command, check=False).returncode != 0:
                raise rig.Failed(f"{command[0]} cannot install {' and '.join(PACKAGES)}")
        mark.touch()
    listed = json.loads(subprocess.run([str(PLACE / "bin" / "python"), "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True).stdout)
    versions = {one["name"]: one["version"] for one in listed}
    print(f"# litellm {versions['litellm']}, vllm-router {versions['vllm-router']}", flush=True)


def litellm(running, servers):
    """LiteLLM's proxy with one worker: its name, port and process."""
    entry = lambda port: {"model_name": "gpt-4o-mini", "litellm_params": {"model": "openai/gpt-4o-mini", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "x"}}
    config = {"model_list": [entry(port) for port in servers], "general_settings": {"master_key": MASTER_KEY}, "litellm_settings": {"telemetry": False}}
    # JSON is YAML.
    path = running.dir / "litellm.yaml"
    path.write_text(json.dumps(config))
    port = free_port()
    command = [str(PLACE / "bin" / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    process = running.start("litellm", ["taskset", "-c", "0", *command], {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*", "LITELLM_MODE": "PRODUCTION"})
    running.wait("LiteLLM", 120, lambda: answers(port, "/health/liveliness"), 0.5)
    return "LiteLLM", port, process


def vllm_router(running, servers):
    """vLLM's router, in turns over both: its name, port and process. As many threads as it has processors: one."""
    port = free_port()
    command = [str(PLACE / "bin" / "vllm-router"), "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin", "--log-level", "error"]
    command += ["--prometheus-port", str(free_port()), "--worker-urls", *(f"http://127.0.0.1:{server}" for server in servers)]
    process = running.start("vllm-router", ["taskset", "-c", "0", *command], {"NO_PROXY": "*"})
    running.wait("vLLM's router", 60, lambda: answers(port, "/health"), 0.2)
    return "vLLM's router", port, process


def answers(port, path):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
        return answer.status == 200
    return False


def family(pid):
    """A process and its children."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for children in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
                found += [int(word) for word in children.read_text().split() if int(word) not in found]
    return found


def built(source):
    """A C program beside this file, compiled where it is newer."""
    place = rig.ROOT / "target" / source.stem
    if not place.exists() or place.stat().st_mtime < source.stat().st_mtime:
        place.parent.mkdir(exist_ok=True)
        if subprocess.run(["cc", "-O2", "-o", str(place), str(source)], check=False).returncode != 0:
            raise rig.Failed(f"{source.name} cannot be compiled")
    return str(place)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
