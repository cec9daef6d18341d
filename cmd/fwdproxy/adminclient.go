package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fwdproxy/policy"
)

// errNotRunning means that nothing listens on the policy's admin address.
var errNotRunning = errors.New("no fwdproxy is running")

// adminCall asks the running proxy that the policy describes, and decodes its
// JSON answer.
func adminCall(p *policy.Policy, method, path string, query url.Values, into any) error {
	listen := p.Config.Admin.Listen
	if listen == "" {
		return errors.New("admin.listen is empty in the policy, so that a running proxy cannot be asked")
	}
	u := url.URL{Scheme: "http", Host: dialable(listen), Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequest(method, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Fwdproxy-Admin", "1")
	// The environment's proxy is most likely this very proxy.
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: nil}}
	res, err := client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return fmt.Errorf("%w on %s", errNotRunning, u.Host)
		}
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		var failure struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &failure) == nil && failure.Error != "" {
			return errors.New(failure.Error)
		}
		return fmt.Errorf("%s answered %s: %s", u.Host, res.Status, strings.TrimSpace(string(body)))
	}
	return json.Unmarshal(body, into)
}

// dialable turns a listening address into one that can be dialled.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
