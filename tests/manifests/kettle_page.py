"""A page with a pod and its one-shots."""

# The pod begins in line 7, the one-shots in 30, 35 and 45.
PAGE = """\
# Kettle

The tea OS boils by itself.

```yaml
# Everything hot
apiVersion: v1
kind: Pod
metadata:
  name: kettle
spec:
  containers:
  - name: boiler
    image: tea/boiler:v1
  - name: whistle
    image: tea/whistle:v1
    securityContext:
      privileged: true
  securityContext:
    readOnlyRootFilesystem: true
    fsGroup: 7
```

## Before tea

### Pour

```yaml
  # Water first
  - name: pour
    image: tea/pour:v1
    volumeMounts:
    - name: water
      mountPath: /water
  - image: tea/fetch:v2
    name: fetch
    args:
    - --from
    - well
```

!!! tip "Leaves"

    ```yaml
    - name: leaves
      image: tea/leaves:v1
    ```
"""
POD = PAGE[: PAGE.index("## Before")]


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)
