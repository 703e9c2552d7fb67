// Command examples says what an API server would say of the Jobs in some files: by its own decoder, defaults and strategy.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/registry/batch/job"
)

func main() {
	for _, file := range os.Args[1:] {
		if err := created(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func created(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	json, err := utilyaml.ToJSON(data)
	if err != nil {
		return err
	}
	scheme := legacyscheme.Scheme
	strict := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, scheme, scheme, kjson.SerializerOptions{Strict: true})
	decoded, _, err := strict.Decode(json, nil, nil)
	if err != nil {
		return err
	}
	scheme.Default(decoded)
	object, err := scheme.ConvertToVersion(decoded, runtime.InternalGroupVersioner)
	if err != nil {
		return err
	}
	asked, is := object.(*batch.Job)
	if !is {
		return fmt.Errorf("it is a %T", object)
	}
	asked.Namespace = "default"
	rest.FillObjectMetaSystemFields(asked)
	ctx := genericapirequest.WithNamespace(context.Background(), asked.Namespace)
	if err := rest.BeforeCreate(job.Strategy, ctx, asked); err != nil {
		return err
	}
	for _, warning := range job.Strategy.WarningsOnCreate(ctx, asked) {
		return fmt.Errorf("warning: %s", warning)
	}
	return nil
}
