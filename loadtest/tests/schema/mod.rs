//! As much of JSON Schema as `report.schema.json` uses; a keyword beyond that is an error, never ignored.

use serde_json::{Map, Value};

/// `Err` names the place and what is wrong there.
pub(crate) fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    check(schema, value, "$")
}

fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let none = Map::new();
    let schema = schema.as_object().ok_or_else(|| format!("{at}: a schema is an object"))?;
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (keyword, rule) in schema {
        match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "properties" => {}
            "type" => require(fits(rule, value), || format!("{at}: {value} is no {rule}"))?,
            "enum" => require(rule.as_array().is_some_and(|all| all.contains(value)), || {
                format!("{at}: {value} is none of {rule}")
            })?,
            "minimum" => require(value.is_null() || value.as_f64() >= rule.as_f64(), || {
                format!("{at}: {value} is below {rule}")
            })?,
            "minItems" => {
                let enough =
                    value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap());
                require(enough, || format!("{at}: fewer than {rule} items"))?;
            }
            "required" => {
                for name in rule.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    let there = value.as_object().is_none_or(|object| object.contains_key(name));
                    require(there, || format!("{at}: `{name}` is missing"))?;
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "additionalProperties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if !properties.contains_key(name) {
                        require(rule != &Value::Bool(false), || {
                            format!("{at}: `{name}` is not in the schema")
                        })?;
                        check(rule, member, &format!("{at}.{name}"))?;
                    }
                }
            }
            other => return Err(format!("{at}: keyword `{other}` is not supported here")),
        }
    }
    for (name, rule) in properties {
        if let Some(member) = value.get(name) {
            check(rule, member, &format!("{at}.{name}"))?;
        }
    }
    Ok(())
}

fn fits(rule: &Value, value: &Value) -> bool {
    match rule {
        Value::Array(any) => any.iter().any(|one| fits(one, value)),
        Value::String(name) => match name.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            _ => false,
        },
        _ => false,
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

#[test]
fn what_does_not_match_is_refused_with_its_place() {
    let schema = serde_json::json!({"type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 0}}}});
    let error = |value: Value| validate(&schema, &value).unwrap_err();
    assert!(error(serde_json::json!({})).contains("`a` is missing"));
    assert!(error(serde_json::json!({"a": [1, "x"]})).contains("$.a[1]"));
    assert!(error(serde_json::json!({"a": [-1]})).contains("below"));
    assert!(error(serde_json::json!({"a": [], "b": 1})).contains("`b`"));
}
