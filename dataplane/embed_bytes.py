"""Write a file's bytes as a C array: embed_bytes.py INPUT OUTPUT NAME (xxd is not everywhere)."""
import sys

source, target, name = sys.argv[1:]
with open(source, "rb") as f:
    data = f.read()
with open(target, "w", encoding="ascii") as f:
    f.write(f"/* Generated from {name}. */\nstatic const unsigned char {name}[] = {{\n")
    for i in range(0, len(data), 16):
        f.write("\t" + " ".join(f"{b}," for b in data[i : i + 16]) + "\n")
    f.write("};\n")
