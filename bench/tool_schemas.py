"""Functions whose calls are asked for: their arguments' schemas, and what a user might say."""

from typing import Any

_ADDRESS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "street": {"type": "string"},
        "city": {"type": "string"},
        "country": {"enum": ["de", "fr", "jp", "us"]},
        "postcode": {"type": "string", "pattern": "^[0-9]{4,6}$"},
    },
    "required": ["street", "city", "country"],
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "City and country"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    },
    "create_order": {
        "type": "object",
        "properties": {
            "customer": {"type": "string"},
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "sku": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
                        "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
                    },
                    "required": ["sku", "quantity"],
                },
                "minItems": 1,
            },
            "address": _ADDRESS,
        },
        "required": ["customer", "items", "address"],
    },
    "add_contact": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "email": {"type": "string", "format": "email"},
            "phone": {"type": ["string", "null"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "address": {"anyOf": [{"$ref": "#/$defs/address"}, {"type": "null"}]},
        },
        "required": ["name", "email", "phone", "tags", "address"],
        "additionalProperties": False,
        "$defs": {"address": _ADDRESS},
    },
    "set_thermostat": {
        "type": "object",
        "properties": {
            "degrees": {"type": "number", "minimum": 5, "maximum": 30},
            "rooms": {"type": "array", "items": {"enum": ["kitchen", "bath", "hall"]}},
            "until": {"type": "string", "format": "time"},
        },
        "required": ["degrees", "rooms"],
    },
    "search": {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer"},
            "filters": {
                "type": "array",
                "items": {
                    "anyOf": [
                        {
                            "type": "object",
                            "properties": {"kind": {"const": "after"}, "date": {"format": "date"}},
                            "required": ["kind", "date"],
                        },
                        {
                            "type": "object",
                            "properties": {"kind": {"const": "by"}, "author": {"type": "string"}},
                            "required": ["kind", "author"],
                        },
                    ]
                },
            },
        },
        "required": ["query"],
    },
    "file_tree": {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/entry"}},
        "required": ["root"],
        "$defs": {
            "entry": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/entry"}},
                },
                "required": ["name"],
            }
        },
    },
    "write_note": {
        "type": "object",
        "properties": {"title": {"type": "string"}, "text": {"type": "string"}},
        "required": ["title", "text"],
    },
    "log_event": {
        "type": "object",
        "properties": {
            "level": {"type": "string", "enum": ["debug", "info", "warning", "error"]},
            "message": {"type": "string"},
            "details": {"type": "object"},
        },
        "required": ["level", "message"],
    },
    "plot": {
        "type": "object",
        "properties": {
            "points": {
                "type": "array",
                "items": {
                    "type": "array",
                    "items": {"type": "number"},
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
            "is_logarithmic": {"type": "boolean"},
        },
        "required": ["points"],
    },
    "ping": {"type": "object", "properties": {}},
}

PROMPTS = (
    "What is the weather like in Paris today?",
    "Order three of AB-123 and one CD-456 for Jane Doe, 5 Main Street, Springfield.",
    "Please remember my friend Karl, karl@example.org, he likes chess and hiking.",
    "It is too cold in the kitchen.",
    "Find articles about rivers by Anna Smith.",
    "Show me what my home folder might look like.",
    "Write down that the meeting is on Tuesday at ten.",
    "Something went wrong with the printer again.",
    "Draw a circle.",
    "Are you there?",
    "Tell me a joke and translate it into French.",
)
