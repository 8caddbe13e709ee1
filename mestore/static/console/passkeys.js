// Passkeys are the one thing a page cannot do without a script: the browser talks to the authenticator only here.
//
// <form data-passkey="create|get" data-options-url="…"> with a hidden field `credential`. When the form is
// submitted, its token fetches the options, the authenticator answers them, and the form goes on with the answer.
// The page brings the button disabled: pressed before this script is there, it would send a form without an answer.
"use strict";

(() => {
  class Refused extends Error {}

  const bytes = (text) =>
    Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer)))
      .replace(/\+/g, "-")
      .replace(/\//g, "_")
      .replace(/=+$/, "");
  const listed = (descriptors) => (descriptors || []).map((one) => ({ ...one, id: bytes(one.id) }));

  const ask = {
    create: (options) =>
      navigator.credentials.create({
        publicKey: {
          ...options,
          challenge: bytes(options.challenge),
          user: { ...options.user, id: bytes(options.user.id) },
          excludeCredentials: listed(options.excludeCredentials),
        },
      }),
    get: (options) =>
      navigator.credentials.get({
        publicKey: {
          ...options,
          challenge: bytes(options.challenge),
          allowCredentials: listed(options.allowCredentials),
        },
      }),
  };

  const answered = (credential) => {
    const given = credential.response;
    const response = { clientDataJSON: text(given.clientDataJSON) };
    if (given.attestationObject) {
      response.attestationObject = text(given.attestationObject);
      response.transports = given.getTransports ? given.getTransports() : [];
    } else {
      response.authenticatorData = text(given.authenticatorData);
      response.signature = text(given.signature);
      if (given.userHandle) response.userHandle = text(given.userHandle);
    }
    return JSON.stringify({ id: credential.id, rawId: text(credential.rawId), type: credential.type, response });
  };

  const fetched = async (form) => {
    const token = new FormData(form).get("csrfmiddlewaretoken");
    const answer = await fetch(form.dataset.optionsUrl, {
      method: "POST",
      body: new URLSearchParams({ csrfmiddlewaretoken: token }),
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      redirect: "error",
    });
    const body = await answer.json();
    if (!answer.ok) throw new Refused(body.detail || "");
    return body;
  };

  const say = (form, word, sentence) => {
    const line = form.querySelector("[data-passkey-message]");
    if (!line) return;
    line.textContent = sentence || line.dataset[word] || "";
    line.hidden = !line.textContent;
  };

  const run = async (form) => {
    const button = form.querySelector("button[type=submit], button:not([type])");
    say(form, "none");
    button.disabled = true;
    try {
      const options = await fetched(form);
      const credential = await ask[form.dataset.passkey](options);
      form.elements.namedItem("credential").value = answered(credential);
      form.submit();
    } catch (problem) {
      // NotAllowedError: the person said no, or took too long.
      const word = problem.name === "NotAllowedError" ? "cancelled" : "failed";
      button.disabled = false;
      say(form, word, problem instanceof Refused ? problem.message : "");
    }
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    if (form.dataset.ready) continue; // the script may stand in a page twice
    form.dataset.ready = "yes";
    if (!window.PublicKeyCredential) {
      say(form, "unsupported");
      continue;
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run(form);
    });
    form.querySelector("button").disabled = false;
  }
})();
