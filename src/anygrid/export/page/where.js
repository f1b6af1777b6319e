// A classic script, because modules do not load from a file: it says why nothing happens there.
if (location.protocol === "file:") document.documentElement.classList.add("from-file");
