// Made by fwdproxy from [forward.pac] of its policy. It resolves no name.
var proxies = {{.Proxies}};
var directNames = {{.Names}};
var directBelow = {{.Below}};
var directBits = {{.Bits}};

function FindProxyForURL(url, host) {
	host = host.toLowerCase();
	if (host.charAt(0) === "[") {
		host = host.substring(1, host.length - 1);
	}
	if (host.charAt(host.length - 1) === ".") {
		host = host.substring(0, host.length - 1);
	}
	var i, bits = bitsOf(host);
	if (bits === "" && host.indexOf(".") < 0 && host.indexOf(":") < 0) {
		return "DIRECT";
	}
	for (i = 0; i < directNames.length; i++) {
		if (host === directNames[i]) {
			return "DIRECT";
		}
	}
	for (i = 0; i < directBelow.length; i++) {
		if (endsWith("." + host, directBelow[i])) {
			return "DIRECT";
		}
	}
	for (i = 0; i < directBits.length; i++) {
		if (bits !== "" && bits.substring(0, directBits[i].length) === directBits[i]) {
			return "DIRECT";
		}
	}
	return proxies;
}

function endsWith(s, end) {
	return s.length >= end.length && s.substring(s.length - end.length) === end;
}

// bitsOf returns "4:" or "6:" and the bits of an address, "" for what is none.
function bitsOf(host) {
	var i, bits = "", parts;
	if (/^\d{1,3}(\.\d{1,3}){3}$/.test(host)) {
		parts = host.split(".");
		for (i = 0; i < 4; i++) {
			if (parseInt(parts[i], 10) > 255) {
				return "";
			}
			bits += padded(parseInt(parts[i], 10), 8);
		}
		return "4:" + bits;
	}
	if (host.indexOf(":") < 0) {
		return "";
	}
	if (/:\d+(\.\d+){3}$/.test(host)) {
		i = host.lastIndexOf(":") + 1;
		bits = bitsOf(host.substring(i));
		if (bits === "") {
			return "";
		}
		host = host.substring(0, i) + parseInt(bits.substring(2, 18), 2).toString(16) + ":" + parseInt(bits.substring(18), 2).toString(16);
	}
	parts = host.split("::");
	var before = groups(parts[0]), after = parts.length === 2 ? groups(parts[1]) : [];
	if (!before || !after || parts.length > 2) {
		return "";
	}
	var missing = 8 - before.length - after.length;
	if (parts.length === 1 ? missing !== 0 : missing < 1) {
		return "";
	}
	while (missing-- > 0) {
		before.push("0");
	}
	before = before.concat(after);
	bits = "";
	for (i = 0; i < 8; i++) {
		bits += padded(parseInt(before[i], 16), 16);
	}
	return "6:" + bits;
}

// groups splits a part of an IPv6 address, and returns null for what is none.
function groups(s) {
	if (s === "") {
		return [];
	}
	return /^[0-9a-f]{1,4}(:[0-9a-f]{1,4})*$/.test(s) ? s.split(":") : null;
}

function padded(n, width) {
	var s = n.toString(2);
	while (s.length < width) {
		s = "0" + s;
	}
	return s;
}
