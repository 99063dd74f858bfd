// Where sessions are placed on several servers: ask for a place, and for another one after a loss.

/** Whether the server of the page gives places on request only. */
export async function isPlaced(page) {
  try {
    return (await (await fetch(new URL("info", page))).json()).placement === true;
  } catch {
    return false; // the WebSocket will tell what is wrong
  }
}

/**
 * The address of the WebSocket of a session. session: id of one that goes on, or null. Throws the
 * message `error` of the server, or null where none came.
 */
export async function askForPlace(page, token, session) {
  const url = new URL("sessions", page);
  if (token) url.searchParams.set("token", token);
  let answer = null;
  try {
    const body = JSON.stringify(session ? { session } : {});
    const response = await fetch(url, { method: "POST", body });
    answer = await response.json();
    if (!response.ok) throw null;
  } catch {
    throw answer?.type === "error" ? answer : null;
  }
  const address = new URL(answer.url, page);
  if (address.protocol === "http:") address.protocol = "ws:";
  if (address.protocol === "https:") address.protocol = "wss:";
  return address.href;
}
