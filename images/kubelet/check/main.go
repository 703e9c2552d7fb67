// Command check says what the kubelet would say of static pod manifests, by the kubelet's own reader and validator.
//
// It reads the files that it is given; without one, a stream of JSON strings on stdin, each a manifest in base64. For each it
// prints one JSON object on a line (see answer). Its exit status is 0 whenever it could answer.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/component-base/version"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/capabilities"

	"kios.example/reference/kubelet/check/source"
)

// answer is what the kubelet of a version would say of one manifest; it takes one without Unreadable, Refused and Faults.
type answer struct {
	Kubelet string `json:"kubelet"`
	// Unreadable is the decoder's error.
	Unreadable string `json:"unreadable,omitempty"`
	// Refused is what the file source has against it beside the validator.
	Refused string `json:"refused,omitempty"`
	// Faults are the validator's.
	Faults []fault `json:"faults,omitempty"`
	// Dropped is what is read and left out without a word.
	Dropped []string `json:"dropped,omitempty"`
}

type fault struct {
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	Value  any    `json:"value,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "check: %v\n", err)
		os.Exit(1)
	}
}

func run(files []string, in io.Reader, out io.Writer) error {
	// As the kubelet does when it starts: a static pod may be privileged.
	capabilities.Initialize(capabilities.Capabilities{AllowPrivileged: true})
	answers := json.NewEncoder(out)
	answers.SetEscapeHTML(false)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := answers.Encode(ask(data)); err != nil {
			return err
		}
	}
	if len(files) > 0 {
		return nil
	}
	for manifests := json.NewDecoder(in); ; {
		var data []byte
		if err := manifests.Decode(&data); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(ask(data)); err != nil {
			return err
		}
	}
}

func ask(data []byte) answer {
	said := answer{Kubelet: version.Get().GitVersion, Dropped: dropped(data)}
	parsed, err := source.Parse(data)
	var list utilerrors.Aggregate
	switch {
	case err == nil:
	case !parsed:
		said.Unreadable = err.Error()
	case errors.As(err, &list):
		said.Faults = faults(list.Errors())
	default:
		said.Refused = err.Error()
	}
	return said
}

func faults(list []error) []fault {
	var found []fault
	for _, err := range list {
		var of *field.Error
		if errors.As(err, &of) {
			found = append(found, fault{of.Field, of.Type.String(), scalar(of.BadValue), of.Detail})
		}
	}
	return found
}

// scalar leaves a value out that a manifest does not have in this form.
func scalar(value any) any {
	if text, is := value.(fmt.Stringer); is && !reflect.ValueOf(value).IsZero() {
		return text.String()
	}
	of := reflect.ValueOf(value)
	if of.Kind() == reflect.Pointer && !of.IsNil() {
		of = of.Elem()
	}
	switch of.Kind() {
	case reflect.String:
		return of.String()
	case reflect.Bool:
		return of.Bool()
	case reflect.Int, reflect.Int32, reflect.Int64:
		return of.Int()
	}
	return nil
}

// dropped asks the strict decoder, which the kubelet does not use.
func dropped(data []byte) []string {
	json, err := utilyaml.ToJSON(data)
	if err != nil {
		return nil
	}
	scheme := legacyscheme.Scheme
	strict := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, scheme, scheme, kjson.SerializerOptions{Strict: true})
	_, _, err = strict.Decode(json, nil, nil)
	var words []string
	if of, is := runtime.AsStrictDecodingError(err); is {
		for _, each := range of.Errors() {
			words = append(words, each.Error())
		}
	}
	return words
}
