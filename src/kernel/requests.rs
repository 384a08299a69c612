//! Reads requests as clients send them: what the protocol, or common clients, leave out is filled in. Without it
//! jupyter-protocol does not read the request, and the client waits for ever.

use jupyter_zmq_client::{Connection, RawMessage};
use serde_json::{Map, Value, json};
use zeromq::{RouterRecvHalf, SocketRecv, ZmqMessage, ZmqResult};

/// The receiving half of the shell socket. It looks at the signatures itself: what it has changed bears none.
pub struct Requests(Connection<RouterRecvHalf>);

/// A connection whose requests are whole.
pub fn whole(received: Connection<RouterRecvHalf>) -> Connection<Requests> {
    let session_id = received.session_id.clone();
    Connection { socket: Requests(received), mac: None, session_id }
}

#[async_trait::async_trait]
impl SocketRecv for Requests {
    async fn recv(&mut self) -> ZmqResult<ZmqMessage> {
        loop {
            let parts = self.0.socket.recv().await?;
            let message = RawMessage::from_multipart(parts, &self.0.mac).map_err(|error| error.to_string());
            match message.and_then(without_signature) {
                Ok(message) => return Ok(message),
                Err(error) => eprintln!("a request that cannot be read: {error}"),
            }
        }
    }
}

/// The message with its content filled in.
fn without_signature(message: RawMessage) -> Result<ZmqMessage, String> {
    let RawMessage { zmq_identities, mut jparts } = message;
    let header: Value = serde_json::from_slice(&jparts[0]).map_err(|error| error.to_string())?;
    let mut content: Map<String, Value> =
        serde_json::from_slice(&jparts[3]).map_err(|error| error.to_string())?;
    fill(header["msg_type"].as_str().unwrap_or_default(), &mut content);
    jparts[3] = Value::Object(content).to_string().into_bytes().into();
    let mut parts = zmq_identities;
    parts.extend([b"<IDS|MSG>".as_slice().into(), b"".as_slice().into()]);
    parts.extend(jparts);
    ZmqMessage::try_from(parts).map_err(|error| error.to_string())
}

/// Adds what is missing in the content of a request.
fn fill(kind: &str, content: &mut Map<String, Value>) {
    let characters = content.get("code").and_then(Value::as_str).map_or(0, |code| code.chars().count());
    let usual = match kind {
        "execute_request" => json!({
            "silent": false,
            "store_history": content.get("silent") != Some(&Value::Bool(true)),
            "user_expressions": {},
        }),
        "complete_request" => json!({ "cursor_pos": characters }),
        "inspect_request" => json!({ "cursor_pos": characters, "detail_level": 0 }),
        // Without a number a search finds all, and so does the tail.
        "history_request" => json!({
            "hist_access_type": "tail",
            "output": false,
            "raw": true,
            "unique": false,
            "session": 0,
            "start": 0,
            "stop": 0,
            "pattern": "*",
            "n": if content.get("hist_access_type").and_then(Value::as_str) == Some("search") { 0 } else { i32::MAX },
        }),
        _ => return,
    };
    for (name, value) in usual.as_object().into_iter().flatten() {
        if content.get(name).is_none_or(Value::is_null) {
            content.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jupyter_protocol::JupyterMessageContent;

    fn read(kind: &str, content: Value) -> JupyterMessageContent {
        let Value::Object(mut content) = content else { panic!("no object") };
        fill(kind, &mut content);
        JupyterMessageContent::from_type_and_content(kind, Value::Object(content)).unwrap()
    }

    #[test]
    fn requests_with_the_least_are_read() {
        read("history_request", json!({"hist_access_type": "search", "pattern": "a*"}));
        read("history_request", json!({"hist_access_type": "range", "start": 1}));
        read("history_request", json!({}));
        read("inspect_request", json!({"code": "abc", "cursor_pos": null}));
        read("execute_request", json!({"code": "1", "silent": true}));
        read("kernel_info_request", json!({}));
        match read("complete_request", json!({"code": "\u{5b57}b"})) {
            JupyterMessageContent::CompleteRequest(asked) => assert_eq!(asked.cursor_pos, 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_given_stays() {
        match read("execute_request", json!({"code": "1", "silent": true, "store_history": true})) {
            JupyterMessageContent::ExecuteRequest(asked) => assert!(asked.silent && asked.store_history),
            other => panic!("{other:?}"),
        }
    }
}
