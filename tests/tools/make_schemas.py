#!/usr/bin/env python3
"""Writes messages/onnxferry/v1/*.schema.json (JSON Schema 2020-12) from export.proto, comments as descriptions.

Run it after a change of export.proto; unit_messages fails until the files match. Needs protoc and Python's protobuf.
"""

import json
import subprocess
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

MESSAGES = Path(__file__).resolve().parents[2] / "messages"
PROTO = "onnxferry/v1/export.proto"
ROOTS = {
    "export_request": "ExportRequest",
    "export_reply": "ExportReply",
    "progress_event": "ProgressEvent",
    "cancel_request": "CancelRequest",
}
# What senders write may leave everything out and must not misspell; what the worker writes names every plain field,
# and a newer worker may add some.
SENT_TO_US = {"ExportRequest", "CancelRequest"}
F = descriptor_pb2.FieldDescriptorProto


def load():
    with tempfile.NamedTemporaryFile() as out:
        command = ["protoc", f"-I{MESSAGES}", "--include_source_info", f"-o{out.name}", PROTO]
        subprocess.run(command, check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file[0]


class Schemas:
    def __init__(self, file):
        self.messages = {message.name: message for message in file.message_type}
        self.enums = {enum.name: enum for enum in file.enum_type}
        self.comments = {}
        for location in file.source_code_info.location:
            path = tuple(location.path)
            if len(path) == 2 and path[0] == 4:
                name = (file.message_type[path[1]].name,)
            elif len(path) == 4 and path[0] == 4 and path[2] == 2:
                message = file.message_type[path[1]]
                name = (message.name, message.field[path[3]].name)
            else:
                continue
            self.comments[name] = " ".join(location.leading_comments.split())

    def document(self, file_name, root):
        self.root, self.reached = root, {}
        body = self.message(root)
        definitions = {}
        while self.reached.keys() - definitions.keys():
            for name in sorted(self.reached.keys() - definitions.keys()):
                definitions[name] = self.message(name)
        document = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"https://onnxferry.dev/schema/v1/{file_name}.schema.json",
            "title": root,
            **body,
        }
        if definitions:
            document["$defs"] = dict(sorted(definitions.items()))
        return document

    def message(self, name):
        message = self.messages[name]
        schema = {"type": "object", "properties": {}}
        if self.comments.get((name,)):
            schema["description"] = self.comments[(name,)]
        required = []
        for field in message.field:
            entry = self.field(message, field)
            text = self.comments.get((name, field.name))
            schema["properties"][field.name] = {"description": text, **entry} if text else entry
            is_plain = field.type != F.TYPE_MESSAGE or field.label == F.LABEL_REPEATED
            if is_plain and not field.proto3_optional:
                required.append(field.name)
        if self.root in SENT_TO_US:
            schema["additionalProperties"] = False
        else:
            schema["required"] = required
        if name == "ExportRequest":
            schema["required"] = ["output_dir"]
            schema["oneOf"] = [{"required": ["minio_tar_uri"]}, {"required": ["source_uri"]}]
        if name == "ExportReply":
            schema["oneOf"] = [{"required": ["result"]}, {"required": ["failure"]}]
        return schema

    def field(self, message, field):
        type_name = field.type_name.rsplit(".", 1)[-1]
        for nested in message.nested_type:
            if nested.options.map_entry and nested.name == type_name:
                value = self.value(nested.field[1])
                return {"type": "object", "additionalProperties": value}
        value = self.value(field)
        return {"type": "array", "items": value} if field.label == F.LABEL_REPEATED else value

    def value(self, field):
        type_name = field.type_name.rsplit(".", 1)[-1]
        if field.type == F.TYPE_STRING:
            return {"type": "string"}
        if field.type == F.TYPE_BOOL:
            return {"type": "boolean"}
        if field.type == F.TYPE_INT32:
            return {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
        if field.type == F.TYPE_UINT32:
            return {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
        if field.type == F.TYPE_UINT64:
            return {"type": "string", "pattern": "^[0-9]{1,20}$"}
        if field.type == F.TYPE_DOUBLE:
            if self.root in SENT_TO_US:
                return {"type": "number"}
            return {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
        if field.type == F.TYPE_ENUM:
            return {"enum": [value.name for value in self.enums[type_name].value if value.number]}
        if type_name == "Timestamp":
            return {"type": "string", "format": "date-time"}
        assert field.type == F.TYPE_MESSAGE, field
        self.reached[type_name] = True
        return {"$ref": f"#/$defs/{type_name}"}


def main():
    schemas = Schemas(load())
    for file_name, root in ROOTS.items():
        text = json.dumps(schemas.document(file_name, root), indent=2, ensure_ascii=False)
        (MESSAGES / "onnxferry" / "v1" / f"{file_name}.schema.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
