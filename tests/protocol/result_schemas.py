"""The shapes of design section 3, written down a second time, apart from the server's schemas."""

CAUSES = ["ok", "error", "exit", "timeout", "cancelled", "out_of_memory", "killed", "lost",
          "refused", "unsupported"]
SESSION = {"type": "string", "pattern": "^s-[a-z2-7]{8}$"}
RUN = {"type": "string", "pattern": "^r-[a-z0-9]{8}$"}
NUMBER = {"type": "number", "minimum": 0}

OUTCOME = {
    "type": "object",
    "properties": {
        "session": SESSION, "run": RUN, "environment": {"type": "string"},
        "backend": {"type": "string"}, "cause": {"enum": CAUSES}, "success": {"type": "boolean"},
        "exit_code": {"type": "integer", "minimum": 0, "maximum": 255},
        "signal": {"type": "string", "pattern": "^SIG[A-Z0-9+]+$"},
        "error": {"type": "object", "required": ["etype", "evalue"], "additionalProperties": False,
                  "properties": {"etype": {"type": "string"}, "evalue": {"type": "string"}}},
        "truncated": {"type": "boolean"}, "execution_count": {"type": "integer", "minimum": 0},
        "duration_ms": NUMBER, "cpu_ms": NUMBER, "peak_rss_kib": {"type": "integer", "minimum": 0},
    },
    "required": ["run", "environment", "backend", "cause", "success", "truncated",
                 "execution_count", "duration_ms", "cpu_ms", "peak_rss_kib"],
    "additionalProperties": False,
}

BLOCK = {
    "type": "object",
    "properties": {
        "type": {"enum": ["text", "image", "resource", "resource_link"]},
        "_meta": {
            "type": "object",
            "properties": {
                "cellblock/part": {"enum": ["stdout", "stderr", "result", "display", "artifact",
                                            "error", "note"]},
                "cellblock/seq": {"type": "integer", "minimum": 0},
            },
            "required": ["cellblock/part", "cellblock/seq"],
        },
    },
    "required": ["type", "_meta"],
    "allOf": [
        {"if": {"properties": {"type": {"const": "text"}}},
         "then": {"required": ["text"], "properties": {"text": {"type": "string"}}}},
        {"if": {"properties": {"type": {"const": "image"}}},
         "then": {"required": ["data", "mimeType"]}},
        {"if": {"properties": {"type": {"const": "resource"}}},
         "then": {"properties": {"resource": {"required": ["uri", "mimeType"]}},
                  "required": ["resource"]}},
    ],
}

RESULT = {
    "type": "object",
    "properties": {
        "content": {"type": "array", "items": BLOCK},
        "isError": {"type": "boolean"},
        "_meta": {
            "type": "object",
            "properties": {"cellblock/outcome": OUTCOME, "cellblock/session": SESSION},
            "required": ["cellblock/outcome"],
        },
    },
    "required": ["content", "isError", "_meta"],
}

ORDER = ["stdout", "stderr", "result", "display", "artifact", "error", "note"]
