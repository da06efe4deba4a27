"""Files against the schema of a CustomResourceDefinition, strictly: a field that the schema does not have is a fault.

    python crd.py CRD.yaml FILE...
"""

import sys

import jsonschema
import yaml


def strict(schema):
    """As JSON Schema, with nothing but what is named."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    out = {key: schema[key] for key in ("type", "enum", "minimum", "maximum", "pattern", "required") if key in schema}
    if "properties" in schema:
        out["properties"] = {name: strict(member) for name, member in schema["properties"].items()}
    if "items" in schema:
        out["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = strict(schema["additionalProperties"])
    elif "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out


crd = next(part for part in yaml.safe_load_all(open(sys.argv[1])) if part and part["kind"] == "CustomResourceDefinition")
schemas = {version["name"]: version["schema"]["openAPIV3Schema"] for version in crd["spec"]["versions"]}
for name in sys.argv[2:]:
    root = yaml.safe_load(open(name))
    group, version = root["apiVersion"].split("/")
    assert (group, root["kind"]) == (crd["spec"]["group"], crd["spec"]["names"]["kind"]), (name, root["apiVersion"], root["kind"])
    schema = strict(schemas[version])
    # Every resource has a name; a CRD leaves that to Kubernetes.
    schema["properties"]["metadata"] = {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}
    jsonschema.validate(root, schema)
    print("INFO", name, "is what", crd["metadata"]["name"], "takes")
