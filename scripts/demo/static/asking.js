// Asking the server for something, and telling the user how that went.

const status = document.querySelector("#status");

export function tell(text, failed = false) {
  status.textContent = text;
  status.classList.toggle("failed", failed);
}

export async function call(method, path, content) {
  const options = { method, headers: { Accept: "application/json" } };
  if (content !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(content);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) {
    throw new Error(answer.message || `The server answered ${response.status}.`);
  }
  return answer;
}

// Runs what a button does: it is disabled meanwhile, and a failure is told to the user.
export async function act(button, action) {
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    tell(error.message, true);
  } finally {
    button.disabled = false;
  }
}
