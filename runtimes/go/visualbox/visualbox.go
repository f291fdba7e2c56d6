// Package visualbox answers modules that were written for the published system of that name.
package visualbox

import "cloister"

// MODEL is the configuration: the module's settings by name.
var MODEL = cloister.MODEL

// Output gives all widgets that draw it a new model.
func Output(value any) error { return cloister.Output(value) }
