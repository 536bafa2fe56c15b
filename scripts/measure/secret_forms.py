"""Keys made up for one measurement, every form in which one may come back, and where each was seen.

Standard library only. Imported by `secrets`; does nothing by itself.
"""

import base64
import re
import secrets
import string
import threading
import urllib.parse

LETTERS = string.ascii_letters + string.digits
# As many letters of a key as are no longer chance.
PART = 12


def made(kind, odd=""):
    """A key as providers make them; `odd` letters are spelt otherwise in URLs and JSON."""
    middle = "".join(secrets.choice(LETTERS) for _ in range(20))
    return f"sk-{kind}-{middle}{odd}" + "".join(secrets.choice(LETTERS) for _ in range(20))


def forms_of(key):
    """(name of the form, bytes); all are compared in small letters, so that one spelling of hex is enough."""
    raw = key.encode()
    found = {
        "plain": raw,
        "url": urllib.parse.quote(key, safe="").encode(),
        "url, each byte": "".join(f"%{byte:02x}" for byte in raw).encode(),
        "hex": raw.hex().encode(),
        "C": "".join(f"\\x{byte:02x}" for byte in raw).encode(),
        "JSON": key.replace("/", "\\/").encode(),
        "JSON, each byte": "".join(f"\\u{byte:04x}" for byte in raw).encode(),
        "JSON, all but letters": re.sub(r"[^A-Za-z0-9]", lambda odd: f"\\u{ord(odd[0]):04x}", key).encode(),
        # Behind `sk-KIND-`; a key may have more of these within.
        "first part": raw.split(b"-", 2)[2][:PART],
        "last part": raw[-PART:],
    }
    # Whatever stands before it, and without what hangs on its neighbours.
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw)
        inner = whole[0 if before == 0 else before + 1 : len(raw + b"\0" * before) // 3 * 4]
        found[f"base64 at {before}"] = inner
        found[f"base64 of URLs at {before}"] = inner.replace(b"+", b"-").replace(b"/", b"_")
    if min(len(value) for value in found.values()) < PART:
        raise ValueError("a key is too short to be looked for")
    return {name: value.lower() for name, value in found.items()}


class Seen:
    """What was looked at, and what was found there."""

    def __init__(self, keys):
        self.forms = {name: forms_of(key) for name, key in keys.items()}
        # Why a key may be anywhere at all, by its name.
        self.everywhere = {}
        self.bytes, self.hits = {}, []
        self.lock = threading.Lock()

    def learn(self, name, key):
        self.forms[name] = forms_of(key)

    def look(self, place, data, where="", allowed=None):
        """Notes the keys in some bytes; `allowed` says of a key's name why it may be there, or nothing."""
        if isinstance(data, str):
            data = data.encode(errors="surrogateescape")
        self.bytes[place] = self.bytes.get(place, 0) + len(data)
        small = data.lower()
        found = []
        for name, forms in list(self.forms.items()):
            for form, value in forms.items():
                at = small.find(value)
                if at >= 0:
                    # Whoever has the whole has the parts.
                    found.append((name, form, self.around(data, at, len(value), name)))
                    break
        for name, form, context in found:
            why = self.everywhere.get(name) or (allowed(name) if allowed else None) or ""
            hit = (place, name, form, where, why, context)
            with self.lock:
                if not any(other[:4] == hit[:4] for other in self.hits):
                    self.hits.append(hit)
        return found

    def around(self, data, at, length, name):
        """What stands around a hit."""
        text = self.hidden(data[max(0, at - 300) : at + length + 300])
        middle = text.find(f"<{name}>")
        return text[max(0, middle - 70) : middle + 100]

    def hidden(self, data):
        """A few words around a hit, without any key."""
        for name, forms in list(self.forms.items()):
            for value in forms.values():
                data = re.sub(re.escape(value), f"<{name}>".encode(), data, flags=re.I)
        return re.sub(r"\s+", " ", data.decode(errors="replace")).strip()

    def bad(self):
        return [hit for hit in self.hits if not hit[4]]
