// Package cloister is what integrations in Go use: MODEL, the configuration, and Output, a new model for all widgets
// that draw it.
package cloister

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

// MODEL is the configuration: the module's settings by name.
var MODEL = read()

// Error is what the platform answered instead of doing what was asked. Code is stable.
type Error struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (e *Error) Error() string { return e.Detail }

var client = &http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", setting("CLOISTER_INNER", "/run/cloister/inner.sock"))
	},
}}

var (
	mutex  sync.Mutex
	wake   = sync.NewCond(&mutex)
	newest []byte // what waits to be sent; what it takes the place of is skipped
	busy   bool
)

// Output gives all widgets that draw it a new model. It returns when this one, or a newer one, is on its way, so a
// program cannot run ahead of the platform. What cannot be sent is said on standard error, too.
func Output(value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		fmt.Fprintln(os.Stderr, "output:", err)
		return err
	}
	mutex.Lock()
	defer mutex.Unlock()
	newest = body
	for busy {
		wake.Wait()
	}
	if newest == nil {
		return nil
	}
	body, newest, busy = newest, nil, true
	mutex.Unlock()
	_, err = post("/v1/output", body, "application/json")
	mutex.Lock()
	busy = false
	wake.Broadcast()
	if err != nil {
		fmt.Fprintln(os.Stderr, "output:", err)
	}
	return err
}

// SQL asks governed data, as far as the person who added the module may; each row is a value by column's name.
func SQL(query string, params any) ([]map[string]any, error) {
	body, err := json.Marshal(map[string]any{"sql": query, "params": params})
	if err != nil {
		return nil, err
	}
	answer, err := post("/v1/query", body, "application/json")
	if err != nil {
		return nil, err
	}
	var said struct {
		Columns []struct{ Name string }
		Rows    [][]any
	}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber() // whole numbers stay whole
	if err := decoder.Decode(&said); err != nil {
		return nil, err
	}
	rows := make([]map[string]any, len(said.Rows))
	for n, values := range said.Rows {
		rows[n] = make(map[string]any, len(values))
		for place, value := range values {
			rows[n][said.Columns[place].Name] = value
		}
	}
	return rows, nil
}

func post(path string, body []byte, accept string) ([]byte, error) {
	token, err := os.ReadFile(setting("CLOISTER_TOKEN_FILE", "/dev/shm/cloister-token"))
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest("POST", "http://cloister"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		problem := &Error{Code: "internal", Detail: fmt.Sprintf("status %d", response.StatusCode)}
		_ = json.Unmarshal(said, problem) // when it is none, the status has to do
		return nil, problem
	}
	return said, nil
}

func read() map[string]any {
	model := map[string]any{}
	if text, err := os.ReadFile("/dev/shm/cloister-configuration"); err == nil {
		if err := json.Unmarshal(text, &model); err != nil {
			fmt.Fprintln(os.Stderr, "configuration:", err)
		}
	}
	return model
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
