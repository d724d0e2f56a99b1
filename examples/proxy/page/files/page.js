// Keeps the page up to date: it asks for the page again and changes what has changed, so that
// focus, scrolling, selected text, open details and half-typed text stay. Without this file
// the page works too.
"use strict";
(() => {
	const period = 2000, longest = 30000, patience = 15000;
	const root = document.documentElement;
	const at = (id) => document.getElementById(id);
	let timer = 0, failures = 0, running = null, paused = false, token = "";
	root.classList.add("js");

	// update makes a node of the page equal to a new one.
	const update = (old, now) => {
		if (old.nodeType === Node.TEXT_NODE) {
			if (old.data !== now.data) old.data = now.data;
			return;
		}
		if (old.nodeType !== Node.ELEMENT_NODE || old.hasAttribute("data-keep")) return;
		for (const a of [...old.attributes]) {
			if (!now.hasAttribute(a.name) && !(a.name === "open" && old.localName === "details")) old.removeAttribute(a.name);
		}
		for (const a of now.attributes) {
			if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
		}
		children(old, now);
	};

	// name tells nodes apart that may change places, such as rows of a table.
	const name = (n) => n.nodeType === Node.ELEMENT_NODE ? n.localName + "\n" + (n.dataset?.key || n.id || "") : "#" + n.nodeType;

	const children = (old, now) => {
		const keyed = new Map();
		for (const n of old.childNodes) {
			if (n.nodeType === Node.ELEMENT_NODE && (n.dataset?.key || n.id)) keyed.set(name(n), n);
		}
		let here = old.firstChild;
		for (const n of [...now.childNodes]) {
			const known = keyed.get(name(n));
			if (known && known !== here) {
				old.insertBefore(known, here);
				update(known, n);
				continue;
			}
			if (here && name(here) === name(n)) {
				const next = here.nextSibling;
				update(here, n);
				here = next;
				continue;
			}
			old.insertBefore(document.adoptNode(n), here);
		}
		while (here) {
			const next = here.nextSibling;
			if (!(here.nodeType === Node.ELEMENT_NODE && here.hasAttribute("data-keep"))) here.remove();
			here = next;
		}
	};

	const apply = (text) => {
		const now = new DOMParser().parseFromString(text, "text/html");
		if (!now.getElementById("summary")) throw new Error("the answer is not the page");
		// A row that is moved loses the focus: it gets it back.
		const focused = document.activeElement;
		update(document.body, now.body);
		if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({preventScroll: true});
		document.title = document.body.dataset.title;
	};

	const plan = (wait) => {
		clearTimeout(timer);
		if (!paused && !document.hidden) timer = setTimeout(refresh, wait);
	};

	const say = (id, text) => {
		if (at(id).textContent !== text) at(id).textContent = text;
	};

	const refresh = async () => {
		if (running) return;
		running = new AbortController();
		const limit = setTimeout(() => running?.abort(), patience);
		try {
			const answer = await fetch(location.pathname + location.search, {signal: running.signal, cache: "no-store", headers: {Accept: "text/html"}});
			if (!answer.ok) throw new Error("The proxy answers with status " + answer.status, {cause: answer});
			const text = await answer.text();
			if (!paused && !document.hidden) apply(text);
			failures = 0;
			say("lost", "");
		} catch (error) {
			failures++;
			if (failures > 1 && !document.hidden) say("lost", (error.cause ? error.message : "No connection") + ": what you see is old");
		} finally {
			clearTimeout(limit);
			running = null;
			plan(Math.min(longest, period * 2 ** failures));
		}
	};

	document.addEventListener("visibilitychange", () => {
		clearTimeout(timer);
		if (!document.hidden && !paused) refresh();
	});

	const pause = () => {
		paused = !paused;
		clearTimeout(timer);
		at("pause").setAttribute("aria-pressed", String(paused));
		at("pause").textContent = paused ? "Resume updates" : "Pause updates";
		root.classList.toggle("paused", paused);
		if (!paused) refresh();
	};

	const copy = async (button) => {
		try {
			await navigator.clipboard.writeText(at(button.dataset.copy).textContent);
			button.textContent = "Copied";
		} catch {
			getSelection().selectAllChildren(at(button.dataset.copy)); // for people to copy by themselves
			button.textContent = "Selected";
		}
	};

	document.addEventListener("click", (event) => {
		const button = event.target.closest?.("button");
		if (button?.id === "pause") pause();
		if (button?.dataset.copy) copy(button);
	});

	// ask asks for the token, and resolves to an empty string if nobody gives it.
	let settle = null; // resolves the question that is open
	const ask = () => new Promise((resolve) => {
		settle?.("");
		settle = resolve;
		at("ask-token").value = "";
		at("ask").returnValue = "no";
		at("ask").showModal();
		at("ask-token").focus();
	});

	// The event comes later than the end: the dialog may be open again by then.
	at("ask").addEventListener("close", () => {
		if (at("ask").open || !settle) return;
		settle(at("ask").returnValue === "ok" ? at("ask-token").value : "");
		settle = null;
		at("ask-token").value = "";
	});

	const send = async (form) => {
		if (at("ask").open) return;
		const proved = document.body.dataset.proved === "yes";
		if (!proved && !token) token = await ask();
		if (!proved && !token) return;
		say("done", "Sending …");
		const headers = {"Content-Type": "application/json"};
		if (!proved) headers.Authorization = "Bearer " + token;
		try {
			const answer = await fetch("/api/v1/resend", {
				method: "POST", headers, body: JSON.stringify(Object.fromEntries(new FormData(form))), credentials: proved ? "same-origin" : "omit", redirect: "error",
			});
			if (answer.status === 401) token = "";
			if (answer.ok) {
				say("done", "The event is on its way again.");
			} else {
				const body = await answer.json().catch(() => null);
				say("done", "Not sent again: " + (body?.error?.message || "status " + answer.status) + ".");
			}
		} catch {
			say("done", "Not sent again: the proxy did not answer.");
		}
		if (!running) refresh();
	};

	document.addEventListener("submit", (event) => {
		if (!event.target.matches("form.act")) return;
		event.preventDefault();
		send(event.target);
	});

	plan(period);
})();
