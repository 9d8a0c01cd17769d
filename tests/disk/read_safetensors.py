#!/usr/bin/env python3
"""Reads a safetensors file by the rules of the format and nothing else: an
independent witness for the files that optd writes.  Prints one line per tensor,
in the order of the data: type, shape, name, bytes in hexadecimal.  Ends with
status 1 and a sentence when the file breaks a rule.

    read_safetensors.py FILE [--quiet]
"""
import json
import sys

BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
         "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8}


def rule(holds, sentence):
    if not holds:
        sys.exit("broken rule: " + sentence)


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    rule(len(keys) == len(set(keys)), "no key twice")
    return dict(pairs)


def whole(value):
    return type(value) is int and value >= 0


def check_tensor(name, info):
    rule(set(info) == {"dtype", "shape", "data_offsets"}, "%s: exactly three entries" % name)
    rule(info["dtype"] in BYTES, "%s: a known dtype" % name)
    rule(all(whole(n) for n in info["shape"]), "%s: whole dimensions" % name)
    begin, end = info["data_offsets"]
    rule(whole(begin) and whole(end) and begin <= end, "%s: whole offsets in order" % name)
    size = BYTES[info["dtype"]]
    for n in info["shape"]:
        size *= n
    rule(end - begin == size, "%s: offsets that fit the shape" % name)


def main(path, quiet):
    with open(path, "rb") as file:
        content = file.read()
    rule(len(content) >= 8, "eight bytes of length")
    size = int.from_bytes(content[:8], "little")
    rule(size <= 100000000 and 8 + size <= len(content), "a header within the file")
    head, data = content[8:8 + size], content[8 + size:]
    rule(head.startswith(b"{"), "a header that begins with {")
    tensors = json.loads(head.decode("utf-8", "strict"), object_pairs_hook=no_duplicates)
    metadata = tensors.pop("__metadata__", {})
    rule(all(isinstance(text, str) for text in metadata.values()), "metadata of strings")
    for name, info in tensors.items():
        check_tensor(name, info)
    at = 0
    for name, info in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = info["data_offsets"]
        rule(begin == at, "%s: no holes and no overlaps" % name)
        # Not a rule of the format, but what PyTorch's views and ours ask for.
        rule(begin % BYTES[info["dtype"]] == 0, "%s: aligned to its type" % name)
        at = end
        if not quiet:
            print(info["dtype"], info["shape"], name, data[begin:end].hex())
    rule(at == len(data), "tensors to the end of the file")
    rule((8 + size) % 64 == 0, "data that begins at a multiple of 64 bytes")


if __name__ == "__main__":
    main(sys.argv[1], "--quiet" in sys.argv[2:])
