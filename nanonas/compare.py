"""placeholder"""


class Comparison: ...
