// Package source is how the kubelet reads a file of its static pods: its own pkg/kubelet/config/common.go, which the recipe
// copies beside this file, and a way in.
package source

import (
	api "k8s.io/kubernetes/pkg/apis/core"
)

// A node is named by its DHCP server, or is this.
const node = "kios-node"

// Parse says whether data holds a single pod, and why the kubelet would not run it.
func Parse(data []byte) (parsed bool, err error) {
	parsed, _, err = tryDecodeSinglePod(data, func(pod *api.Pod) error {
		return applyDefaults(pod, "", true, node)
	})
	return parsed, err
}
